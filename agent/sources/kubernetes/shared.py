"""What all trackers of one source have in common: the pace and the bounds; and how each of them waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from agent.model import SecretRef
from agent.sources.kubernetes.place import SecretError, kind_of
from kernelsecret.errors import Refused

MOST_WATCHES = 256
"""Watches of all Secrets, each a connection; those beyond are read at their pace."""
READS_AT_ONCE = 32
LEAST_PACE_S = 0.1
ASKED_AWAY_PER_S = 25.0
"""How often an API server that does not answer is asked for all Secrets together."""
SPREAD_S = 1.0
"""When it answers again, all are read within this time."""


class Shared:
    """`pace` says how often a Secret is read that cannot be watched, `hint` hears what would mend that, `count` the
    kind of each failure."""

    def __init__(
        self,
        pace: Callable[[SecretRef], float],
        most: int,
        hint: Callable[[SecretRef, str], None],
        count: Callable[[str], None],
    ) -> None:
        self._pace = pace
        self.hint = hint
        self.count = count
        self.reads = asyncio.Semaphore(READS_AT_ONCE)
        self.watches_left = most
        self.is_away = False
        """Nobody answered the last question."""
        self.wakers: set[Callable[[], object]] = set()
        """To be called when the API server is back."""

    def pace_of(self, ref: SecretRef) -> float:
        """Seconds between two reads."""
        return max(self._pace(ref), LEAST_PACE_S)

    def failed(self, refused: Refused) -> None:
        """A read failed."""
        self.count(kind_of(refused).value)
        if isinstance(refused, SecretError) and refused.is_away:
            self.is_away = True
        elif isinstance(refused, SecretError):
            self.answered()  # though not with the Secret

    def answered(self) -> None:
        """The API server answered: whoever waited for that is woken, but not all at once."""
        if self.is_away:
            self.is_away = False
            loop = asyncio.get_running_loop()
            for wake in self.wakers:
                loop.call_later(random.random() * SPREAD_S, wake)  # noqa: S311 - not a secret

    def away_wait_s(self) -> float:
        """Seconds that each waits while nobody answers: few ask however many there are, and always somebody soon."""
        return random.random() * 2 * len(self.wakers) / ASKED_AWAY_PER_S  # noqa: S311 - not a secret


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, at most so long. Not by `wait_for`, which Python 3.11 lets swallow a cancellation."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def jitter() -> float:
    """About 1, so that not all come together."""
    return 0.9 + random.random() / 5  # noqa: S311 - not a secret
