"""The keys that all replicas share: kept in one Secret, written by the leader alone, loaded live by each of them."""
