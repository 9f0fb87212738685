"""Frees what programs may still be looking at: first cut what leads to it, then wait for a grace period, then free.

The rule of bpf/maps.h: an element of a hash can be reused the moment it is deleted, so nothing is deleted before this.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

RETRY_S = 1.0
"""How long to wait where the kernel gave no grace period."""


@dataclass(order=True, slots=True)
class Grave:
    """Something to cut (which may be done twice) and then free, not before `due` (seconds of the loop's clock)."""

    due: float
    number: int
    cut: Callable[[], None] = field(compare=False)
    free: Callable[[], None] = field(compare=False)


class Graveyard:
    """`fence` is a blocking call that returns when every program that was running has ended. `failed` hears of what
    could not be freed, `worked` that all of what was due could."""

    def __init__(
        self,
        fence: Callable[[], None],
        failed: Callable[[BaseException], None],
        worked: Callable[[], None] = lambda: None,
    ) -> None:
        self._fence = fence
        self._failed, self._worked = failed, worked
        self._graves: list[Grave] = []
        self._numbers = itertools.count()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    def bury(self, after_s: float, cut: Callable[[], None], free: Callable[[], None]) -> None:
        """In `after_s` seconds call `cut`, wait for a grace period, and call `free`."""
        due = asyncio.get_running_loop().time() + after_s
        heapq.heappush(self._graves, Grave(due, next(self._numbers), cut, free))
        self._wake.set()

    async def grace(self) -> None:
        """Wait for a grace period."""
        await asyncio.to_thread(self._fence)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            delay = self._graves[0].due - loop.time() if self._graves else None
            if delay is None or delay > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), delay)
                continue
            await self._dig(loop.time())

    async def flush(self) -> None:
        """Free everything now, due or not: for an agent that ends, and for tests."""
        await self._dig(float("inf"))

    async def _dig(self, now: float) -> None:
        async with self._lock:
            ready = []
            while self._graves and self._graves[0].due <= now:
                ready.append(heapq.heappop(self._graves))
            if not ready:
                return
            try:
                for grave in ready:
                    grave.cut()
                await self.grace()
            except Exception as error:  # noqa: BLE001 - without a grace period nothing may be freed: later, then
                self._failed(error)
                for grave in ready:
                    heapq.heappush(self._graves, replace(grave, due=asyncio.get_running_loop().time() + RETRY_S))
                return
            failures = 0
            for grave in ready:
                try:
                    grave.free()
                except Exception as error:  # noqa: BLE001 - one that fails must not keep the others from being freed
                    failures += 1
                    self._failed(error)
            if not failures:
                self._worked()
