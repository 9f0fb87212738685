"""Who gets which secrets, how and where: pure functions of a pod and of what is known of the cluster. No I/O here."""
