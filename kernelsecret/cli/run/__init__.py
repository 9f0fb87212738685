"""`kernelsecret-ctl run`: secrets for one command, without a cluster. See docs/run.md.

Three processes: `resolve` reads secrets and knows credentials, and nobody may look into it; `supervise` has descriptors
of values, and never a value, so that the command may open them through /proc; the third is the command.
"""
