"""Mode `vault-agent`: what the pod is given where no agent of ours runs on its node. Pure."""
