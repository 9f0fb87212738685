"""A loop whose time is made: it jumps to the next timer, so hours of a test pass at once. No sockets in it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
MOST_STILL = 10_000
"""Turns of the loop in one moment; whoever needs more does not wait but spin."""


class _Selector(selectors.SelectSelector):
    now = 0.0
    still = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen any more")
        before = self.now
        self.now += max(0.0, timeout)
        self.still = self.still + 1 if self.now == before else 0
        if self.still > MOST_STILL:
            raise RuntimeError("time stands still: somebody waits for nothing, again and again")
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and moves only by timers."""

    def __init__(self) -> None:
        self._made = _Selector()
        super().__init__(self._made)

    def time(self) -> float:
        return self._made.now


def run(story: Coroutine[Any, Any, T]) -> T:
    """Runs a story in made time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
