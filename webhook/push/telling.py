"""What pushes came to, for metrics and the audit trail. The first of a kind is told at once; while more of it come they
are counted, and told as one record a second: nobody fills a disk by pushing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from webhook.observe.records import Pushed
from webhook.push.outcomes import UNPROVEN, Outcome

EVERY_S: Final = 1.0
MOST_KINDS: Final = 256
"""Kinds that are summed up one by one; what is beyond is summed up by outcome."""
_MOST_NAMED: Final = 8
"""Secrets that a record names."""


class Teller:
    """Use it on one event loop. `count(outcome, seconds)` is the metrics', `take` the trail's."""

    def __init__(
        self,
        take: Callable[[Pushed], None],
        count: Callable[[str, float | None], None],
        *,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._take, self._count, self._wall_clock_ns = take, count, wall_clock_ns
        self._kinds: dict[tuple[str, ...], Pushed] = {}
        self._timer: asyncio.TimerHandle | None = None

    def tell(
        self,
        outcome: Outcome,
        *,
        sender: str,
        address: str,
        secrets: tuple[object, ...] = (),
        why: str = "",
        seconds: float | None = None,
    ) -> None:
        """One push was answered. `seconds` is how long it took until it was written, None where it was not."""
        self._count(outcome, seconds)
        named = ", ".join(str(one) for one in secrets[:_MOST_NAMED])
        named += f" and {len(secrets) - _MOST_NAMED} more" if len(secrets) > _MOST_NAMED else ""
        # A name that is only a claim may be another one each time.
        kind: tuple[str, ...] = (str(outcome), address, "" if outcome in UNPROVEN else sender, named)
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = (str(outcome),)
        before = self._kinds.get(kind)
        record = Pushed("push", self._wall_clock_ns(), str(outcome), sender, address, named, why, 1)
        if before is None:
            self._take(record)
            self._kinds[kind] = record._replace(times=0)
        else:
            self._kinds[kind] = record._replace(times=before.times + 1)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush)

    def flush(self) -> None:
        """Tell what was summed up. Kinds of which nothing came since are forgotten."""
        kinds, self._kinds = self._kinds, {}
        for kind, record in kinds.items():
            if record.times:
                self._take(record)
                self._kinds[kind] = record._replace(times=0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.flush) if self._kinds else None
