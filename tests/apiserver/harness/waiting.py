"""Waiting for something to come true, bounded, with what it was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

DEADLINE_S: Final = 60.0
"""Generous: a machine that does other things too is slow, and nothing waits longer than it has to."""
POLL_S: Final = 0.02


def until(
    found: Callable[[], T], what: str, *, deadline_s: float = DEADLINE_S, explain: Callable[[], str] = lambda: ""
) -> T:
    """The first true thing that `found` gives; AssertionError with `what` and `explain()` where none comes."""
    end = time.monotonic() + deadline_s
    while not (result := found()):
        assert time.monotonic() < end, f"in {deadline_s:g} s not: {what}\n{explain()}"
        time.sleep(POLL_S)
    return result
