"""Looking after many secrets with one timer: each when it is due, a bounded number of them at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from agent.sources.vault.agenda import Agenda

TICK_S = 0.01
"""What is due within this is done together: a thousand secrets are not a thousand wake-ups."""

T = TypeVar("T", bound=Hashable)


class Rounds(Generic[T]):
    """`run` looks after one item; it is never called for one twice at a time unless the caller puts it back meanwhile.
    `admit` is asked when an item's time has come: False leaves it to the caller when it is due again."""

    def __init__(self, run: Callable[[T], Coroutine[Any, Any, None]], admit: Callable[[T], bool], most: int) -> None:
        self._run, self._admit, self._most = run, admit, most
        self._loop = asyncio.get_running_loop()
        self._agenda: Agenda[T] = Agenda()
        self._urgent: OrderedDict[T, None] = OrderedDict()
        self._ready: OrderedDict[T, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = float("-inf")
        self._closed = False

    def put(self, item: T, at: float) -> None:
        """Look after it then (the loop's clock), and not before; one whose turn has come already is left there."""
        if item not in self._ready and item not in self._urgent:
            self._agenda.put(item, at)
            self._set_timer()

    def hurry(self, item: T) -> None:
        """Look after it before all that nobody waits for."""
        self._agenda.drop(item)
        self._ready.pop(item, None)
        self._urgent.setdefault(item, None)
        self._begin()

    def drop(self, item: T) -> None:
        """It needs no looking after. Idempotent."""
        self._agenda.drop(item)
        self._ready.pop(item, None)
        self._urgent.pop(item, None)

    def due_at(self, item: T) -> float | None:
        """When it is due; None where it is not, or its turn has come."""
        return self._agenda.at(item)

    async def close(self, within_s: float) -> None:
        """Begin nothing more; what is under way has so long to end, and is cancelled then."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._ready.clear()
        self._urgent.clear()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _set_timer(self) -> None:
        at = self._agenda.next_at()
        if at is None or self._closed:
            return
        at = max(at, self._ticked + TICK_S)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._ticked = self._loop.time()
        for item in self._agenda.due(self._ticked):
            if item not in self._urgent and self._admit(item):
                self._ready.setdefault(item, None)
        self._begin()
        self._set_timer()

    def _begin(self) -> None:
        while (first := self._urgent or self._ready) and len(self._tasks) < self._most and not self._closed:
            item, _ = first.popitem(last=False)
            task = self._loop.create_task(self._run(item))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._begin()
