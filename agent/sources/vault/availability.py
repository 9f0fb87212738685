"""Whether Vault serves: one gate for all that is asked of it, so that an outage is met once and not a thousand times.

What proves an outage (nobody listens, sealed, a certificate that is not believed) closes the gate at once; what may be
one secret's own trouble (a 500 of a database plugin, a cut answer) only makes it look. While it is closed one prober
asks, at most two seconds apart however long it lasts: recovery is never hours of backoff away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from agent.sources.vault.errors import VaultError
from agent.sources.vault.events import VaultEvents

PROBE_S: Final = 1.0
"""Between two looks at a Vault that is away: half to the whole of this, so that nodes do not look in step."""
FRESH_S: Final = 0.25
"""A look that is not older than this is believed."""

Probe = Callable[[], Awaitable[VaultError | None]]
"""One look: None where Vault serves, else why not. Bounded to about two seconds, and does not raise."""


class Availability:
    """Use it on one event loop. It is up until the contrary is seen."""

    def __init__(
        self,
        probe: Probe,
        events: VaultEvents,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._probe = probe
        self._events = events
        self._clock = clock
        self._chance = chance
        self._problem: VaultError | None = None
        self._down_since = 0.0
        self._up_since = 0.0
        self._looked = float("-inf")
        self._up = asyncio.Event()
        self._up.set()
        self._waiting: list[Callable[[], None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether requests are made at all."""
        return self._problem is None

    @property
    def problem(self) -> VaultError | None:
        """Why it is down."""
        return self._problem

    async def wait_up(self) -> None:
        """Wait until Vault serves."""
        await self._up.wait()

    def on_up(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call it each time that Vault serves again, until the returned function is called (idempotent)."""
        self._waiting.append(callback)

        def cancel() -> None:
            if callback in self._waiting:
                self._waiting.remove(callback)

        return cancel

    async def require(self) -> None:
        """Raises VaultError while Vault is away. Looks first: kubelet's retry must not meet an old refusal."""
        if self._problem is None:
            return
        if self._clock() - self._looked > FRESH_S:
            await self._look()
        if self._problem is not None:
            raise self._problem.with_traceback(None)

    def lost(self, error: VaultError, asked_at: float) -> None:
        """A request that was begun at `asked_at` (of the clock) met an error that proves that Vault is away."""
        if self._problem is None and asked_at < self._up_since:
            self.doubt()  # it tells of the last outage
        else:
            self._down(error)

    def doubt(self) -> None:
        """A request met an error that may be its own: look whether Vault serves."""
        if self._problem is None and not self._closed and self._clock() - self._looked > FRESH_S:
            self._begin_look()

    async def close(self) -> None:
        """Ask no more."""
        self._closed = True
        tasks = [task for task in (self._prober, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_look(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_now())
        return self._looking

    async def _look(self) -> None:
        # Shielded: whoever asked may be cancelled, the look is everybody's.
        await asyncio.shield(self._begin_look())

    async def _look_now(self) -> None:
        found = await self._probe()
        self._looked = self._clock()
        if found is not None:
            self._down(found)
        elif self._problem is not None:
            self._came_up()

    def _down(self, error: VaultError) -> None:
        if self._closed:
            return
        first, self._problem = self._problem is None, error
        if first:
            self._down_since = self._clock()
            self._up.clear()
            self._events.went_down(error)
            self._prober = asyncio.get_running_loop().create_task(self._probe_until_up())

    def _came_up(self) -> None:
        self._problem = None
        self._up_since = self._clock()
        self._up.set()
        self._events.came_up(self._up_since - self._down_since)
        for callback in tuple(self._waiting):
            callback()

    async def _probe_until_up(self) -> None:
        while self._problem is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_S * (0.5 + self._chance() / 2)):
                    await self._up.wait()
            if self._problem is not None:
                await self._look()
