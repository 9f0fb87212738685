"""The node agent: it publishes volumes over CSI and serves their files from the kernel."""
