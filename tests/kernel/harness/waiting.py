"""Waiting for a condition, with a bound: for what the kernel does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_S = 10.0


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], longest_s: float = LONGEST_S) -> None:
    """Return when the condition holds; an assertion that names it where it never does."""
    deadline = time.monotonic() + longest_s
    pause = 0.001
    while not condition():
        assert time.monotonic() < deadline, f"not within {longest_s} s: {what if isinstance(what, str) else what()}"
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
