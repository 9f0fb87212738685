"""The one door to kube-apiserver for our daemons: requests, list and watch, leases. No decision here."""
