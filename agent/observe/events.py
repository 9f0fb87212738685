"""Live events, fanned out to whoever watches.

In memory only: a slow watcher loses events and is told how many; nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.observe.records import Record
from kernelsecret.errors import Code, Refused


@dataclass(frozen=True, slots=True)
class Gap:
    """Here `dropped` events are missing, because this subscriber was too slow."""

    dropped: int


class Subscription:
    """One watcher's bounded queue: iterate it (`async for`), close it when done.

    For one consumer, on the hub's event loop.
    """

    def __init__(self, capacity: int, replay: list[Record], ended: Callable[[Subscription], None]) -> None:
        self._queue: deque[Record] = deque(replay[-capacity:])
        self._capacity = capacity
        self._gap = len(replay) - len(self._queue)
        self._ended = ended
        self._closed = False
        self._wake = asyncio.Event()
        self.dropped = self._gap
        """How many events this subscriber has lost in all."""

    def offer(self, record: Record) -> bool:
        """Queue a record; False when the oldest one had to go for it (the newest are what a watcher is after)."""
        kept = len(self._queue) < self._capacity
        if not kept:
            self._queue.popleft()
            self._gap += 1
            self.dropped += 1
        self._queue.append(record)
        self._wake.set()
        return kept

    def close(self) -> None:
        """End the iteration after what is queued, and leave the hub. Idempotent."""
        if not self._closed:
            self._closed = True
            self._wake.set()
            self._ended(self)

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Record | Gap:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._gap:
            gap, self._gap = Gap(self._gap), 0
            return gap
        return self._queue.popleft()


class EventHub:
    """Takes every record once and hands it to all subscribers without ever waiting. Not thread-safe: use it on one
    event loop.

    `kept` is how many records a late subscriber can still see, `capacity` the queue of each subscriber,
    `on_dropped` is told the number of records that a subscriber lost.
    """

    def __init__(
        self,
        *,
        kept: int = 256,
        capacity: int = 1024,
        max_subscribers: int = 16,
        on_dropped: Callable[[int], None] = lambda count: None,
    ) -> None:
        if kept < 0 or capacity < 1 or max_subscribers < 1:
            raise ValueError("kept >= 0, capacity >= 1 and max_subscribers >= 1 are needed")
        self._recent: deque[Record] = deque(maxlen=kept)
        self._capacity = capacity
        self._max_subscribers = max_subscribers
        self._on_dropped = on_dropped
        self._subscriptions: list[Subscription] = []
        self._closed = False

    @property
    def subscribers(self) -> int:
        """How many are watching now."""
        return len(self._subscriptions)

    def publish(self, record: Record) -> None:
        """Hand a record to everyone. Never blocks and never raises for a slow subscriber."""
        self._recent.append(record)
        for subscription in self._subscriptions:
            if not subscription.offer(record):
                self._on_dropped(1)

    def recent(self) -> list[Record]:
        """The last records, oldest first."""
        return list(self._recent)

    def subscribe(self, replay: int = 0) -> Subscription:
        """A new watcher that first gets up to `replay` of the last records.

        Raises Refused: too many watchers already, or the hub is closed.
        """
        if self._closed:
            raise Refused(Code.UNAVAILABLE, "events", "the agent is stopping")
        if len(self._subscriptions) >= self._max_subscribers:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                "events",
                f"{self._max_subscribers} watchers are connected already",
                "end one of them",
            )
        recent = self.recent()[-replay:] if replay > 0 else []
        subscription = Subscription(self._capacity, recent, self._forget)
        self._subscriptions.append(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription; later ones are refused. Idempotent."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.remove(subscription)
