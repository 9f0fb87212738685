"""The `kubernetes` source: Secrets of the pods' namespaces."""
