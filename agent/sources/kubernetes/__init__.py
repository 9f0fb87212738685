"""The `kubernetes` source: Secrets of the pods' namespaces, read by each pod's own right, watched for changes."""
