"""Measures what the product promises, on this machine, by the real agent and real processes: `python -m bench`.

A family (`bench.families`) measures some figures in one scenario; `bench.figures` says what each figure is, and its
goal.
"""
