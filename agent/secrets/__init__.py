"""What becomes of a secret in the agent: fetched, shaped, shown, followed, and read by whom."""
