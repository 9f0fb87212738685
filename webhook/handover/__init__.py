"""Registrations on their way from admission to the agent of the pod's node, beside the scheduling path."""
