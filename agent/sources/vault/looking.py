"""One look at one secret: what came of it is said to whoever waits for it, and to all who watch it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from agent.model import SecretVersion
from agent.sources.vault.availability import Availability
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lanes import Lanes
from agent.sources.vault.watched import Watched
from kernelsecret.errors import Code, Refused

Waiting = asyncio.Future[SecretVersion]


class Looking:
    """`count` hears once of each failure that nobody has counted yet."""

    def __init__(self, availability: Availability, lanes: Lanes, count: Callable[[VaultError], None]) -> None:
        self._availability, self._lanes, self._count = availability, lanes, count
        self._loop = asyncio.get_running_loop()

    async def look(self, watched: Watched) -> None:
        """Look at it, which nobody else may be doing. Whoever waits for it when this begins has an answer at its end,
        however that comes."""
        before, waiting = watched.version, watched.waiting
        asked_for = watched.nudged or bool(waiting)
        watched.waiting, watched.busy, watched.nudged = [], True, False
        watched.looked_s = self._loop.time()
        result: SecretVersion | Refused = Refused(Code.INTERNAL, str(watched.asked.ref), "could not be read")
        try:
            changed = await watched.advance(asked=asked_for)
            watched.retry_s = None
            self._lanes.answered(watched)
            result = watched.version or result
            answer(waiting, result)  # before the observers: whoever fetched has it
            watched.report("", changed=changed, changed_ns=time.monotonic_ns() if before and changed else 0)
        except Refused as refusal:
            watched.retry_s = _retry_s(refusal)
            self._count_once(refusal)
            self._note_late(watched, refusal)
            result = refusal
            answer(waiting, refusal)
            watched.report(self._said(refusal), changed=watched.version is not before)
        finally:
            answer(waiting, result)
            watched.busy = False
            if watched.is_idle:
                watched.rest()

    def _note_late(self, watched: Watched, refusal: Refused) -> None:
        """Whether it is this secret that Vault does not answer for, and not Vault that does not answer."""
        is_late = isinstance(refusal, VaultError) and refusal.kind is Kind.TIMEOUT
        if is_late and self._availability.is_up:
            self._lanes.unanswered(watched)
        else:
            self._lanes.answered(watched)

    def _count_once(self, refusal: Refused) -> None:
        if isinstance(refusal, VaultError) and not refusal.counted:
            refusal.counted = True
            self._count(refusal)

    def _said(self, refusal: Refused) -> str:
        """While Vault is away every secret says the same, whatever each request has met."""
        problem = self._availability.problem
        return str(problem if problem and isinstance(refusal, VaultError) and refusal.is_away else refusal)


def answer(waiting: Iterable[Waiting], result: SecretVersion | Refused) -> None:
    """Give it to all who have no answer yet."""
    for future in waiting:
        if future.done():
            continue
        if isinstance(result, Refused):
            future.set_exception(result)
        else:
            future.set_result(result)


def _retry_s(refusal: Refused) -> float:
    return (refusal.retry_after_s or 0.0) if isinstance(refusal, VaultError) else 0.0
