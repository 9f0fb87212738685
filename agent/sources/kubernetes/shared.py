"""What all trackers of one source have in common: the pace and the bounds; and how each of them waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from agent.model import SecretRef

MOST_WATCHES = 256
"""Watches of all Secrets, each a connection; those beyond are read at their pace."""
READS_AT_ONCE = 32
LEAST_PACE_S = 0.1


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

    def pace_of(self, ref: SecretRef) -> float:
        """Seconds between two reads."""
        return max(self._pace(ref), LEAST_PACE_S)


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until it is set, at most so long. Not by `wait_for`, which Python 3.11 lets swallow a cancellation."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def jitter() -> float:
    """About 1, so that not all come together."""
    return 0.9 + random.random() / 5  # noqa: S311 - not a secret
