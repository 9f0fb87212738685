"""What is due when: one heap for all secrets, one time for each. No I/O, no clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Agenda(Generic[T]):
    """Items by the time at which they are due, in seconds. Putting one again moves it."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._valid: dict[T, tuple[float, int]] = {}
        self._numbers = count()

    def put(self, item: T, at: float) -> None:
        """The item is due then, and no other time."""
        number = next(self._numbers)
        self._valid[item] = at, number
        heapq.heappush(self._heap, (at, number, item))
        if len(self._heap) > 64 + 4 * len(self._valid):  # what was moved is left behind: not for ever
            self._heap = [(at, number, item) for item, (at, number) in self._valid.items()]
            heapq.heapify(self._heap)

    def drop(self, item: T) -> None:
        """It is not due any more. Idempotent."""
        self._valid.pop(item, None)

    def at(self, item: T) -> float | None:
        """When it is due, None where it is not."""
        found = self._valid.get(item)
        return found[0] if found else None

    def next_at(self) -> float | None:
        """When the first is due."""
        while self._heap:
            at, number, item = self._heap[0]
            if self._valid.get(item) == (at, number):
                return at
            heapq.heappop(self._heap)
        return None

    def due(self, now: float) -> list[T]:
        """Take out what is due by now, in order."""
        taken: list[T] = []
        while (at := self.next_at()) is not None and at <= now:
            item = heapq.heappop(self._heap)[2]
            del self._valid[item]
            taken.append(item)
        return taken

    def __len__(self) -> int:
        return len(self._valid)
