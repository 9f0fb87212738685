"""Who watches a secret, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from agent.model import Observer, SecretRef, SecretVersion


@dataclass(eq=False, slots=True)
class Subscription:
    """One observer of a secret; `active` until it no longer wants to know."""

    observer: Observer
    active: bool = True

    def tell(self, loop: asyncio.AbstractEventLoop, say: Callable[[Observer], None]) -> None:
        """From the loop, so that an observer that raises harms nobody else; in order, as the loop keeps it."""
        loop.call_soon(self._tell, say)

    def _tell(self, say: Callable[[Observer], None]) -> None:
        if self.active:
            say(self.observer)


def leaving(
    subscription: Subscription, subscriptions: list[Subscription], then: Callable[[], None]
) -> Callable[[], None]:
    """What takes a subscription out of those that it is in, and does `then`. Idempotent."""

    def leave() -> None:
        subscription.active = False
        if subscription in subscriptions:
            subscriptions.remove(subscription)
            then()

    return leave


def silence(subscriptions: list[Subscription]) -> None:
    """End all of them: their observers hear no more, also not what is on its way."""
    for subscription in subscriptions:
        subscription.active = False
    subscriptions.clear()


class Audience:
    """All who watch one secret. They hear of a problem when it is another one, and of its end by what is good again."""

    def __init__(self, ref: SecretRef, loop: asyncio.AbstractEventLoop) -> None:
        self.subscriptions: list[Subscription] = []
        self.told = ""
        """The problem that they know of; empty where there is none."""
        self._ref, self._loop = ref, loop

    def tell_state(self, subscription: Subscription, version: SecretVersion | None, problem: str) -> None:
        """Tell one how things stand, so that nothing between its fetch and its watch is lost."""
        if version is not None:
            subscription.tell(self._loop, lambda observer: observer.changed(version))
        if problem:
            subscription.tell(self._loop, lambda observer: observer.failed(self._ref, problem))

    def report(self, version: SecretVersion | None, problem: str, *, changed: bool) -> None:
        """Tell all what came of a look: the last good version, what is wrong, and whether the version is another."""
        recovered = bool(self.told) and not problem
        fresh = version if changed or recovered else None
        trouble = problem if changed or problem != self.told else ""
        for subscription in self.subscriptions:
            self.tell_state(subscription, fresh, trouble)
        self.told = problem
