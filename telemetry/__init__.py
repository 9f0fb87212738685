"""What every daemon needs around its work: a log and an audit trail that never say a secret, and a process that nobody
can look into. No decision here.
"""
