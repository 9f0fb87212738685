"""The `vault` source: HashiCorp Vault behind one door."""
