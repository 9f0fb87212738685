"""The mutating admission webhook. It imports the contract and certs, never the agent."""
