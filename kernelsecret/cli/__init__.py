"""`kernelsecret-ctl`: drives the agent and shows it. Nothing of ours imports this package."""
