"""What the agent tells the outside: metrics, audit, logs, health, live events.

Never a secret's value: every door is an allow-list.
"""
