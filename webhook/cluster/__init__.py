"""What the webhook knows of the cluster, and what its leader writes back into the status of interceptors."""
