"""Hints that wait for a worker: bounded, one a pod, oldest first. Offering never waits. No I/O here."""

from __future__ import annotations

import asyncio

from webhook.hints import Hint


class HintQueue:
    """`limit` hints at most; a new hint for a pod that is waiting takes the place of the old one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[tuple[str, str], Hint] = {}
        self._there = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, hint: Hint) -> bool:
        """Whether it was taken: False where the queue is full."""
        pod = (hint.namespace, hint.name)
        if pod not in self._waiting and len(self._waiting) >= self._limit:
            return False
        self._waiting[pod] = hint
        self._there.set()
        return True

    async def take(self) -> Hint:
        """The oldest, when there is one."""
        while not self._waiting:
            self._there.clear()
            await self._there.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    def clear(self) -> int:
        """Give up what waits; how many that were."""
        count = len(self._waiting)
        self._waiting.clear()
        return count
