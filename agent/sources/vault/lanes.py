"""What is asked of Vault at a time, in three lanes: what is slow keeps nobody waiting who does not share its lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from agent.sources.vault.rounds import Rounds
from agent.sources.vault.watched import Watched

POLLS, CREDENTIALS = 32, 16
"""Requests under way at a time: a database that hangs does not keep KV waiting."""
LATE = 8
"""Of those, whatever they are, that Vault left without an answer last time: a database that hangs, as some pods' own
might, keeps nobody else waiting."""
_CLOSE_S: Final = 2.0


class Lanes:
    """`look` looks after one secret, `admit` says whether to when its time has come: see `Rounds`, which each lane is.
    Which lane a secret is in may change; it is due in one of them at most."""

    def __init__(self, look: Callable[[Watched], Coroutine[Any, Any, None]], admit: Callable[[Watched], bool]) -> None:
        self._polls, self._credentials, self._late = (Rounds(look, admit, most) for most in (POLLS, CREDENTIALS, LATE))
        self._are_late: set[Watched] = set()

    def put(self, watched: Watched, at: float) -> None:
        """Look after it then (the loop's clock), and not before."""
        self._of(watched).put(watched, at)

    def put_sooner(self, watched: Watched, at: float) -> None:
        """Look after it then, unless that is done before anyway."""
        due = self._of(watched).due_at(watched)
        if due is None or due > at:
            self.put(watched, at)

    def hurry(self, watched: Watched) -> None:
        """Look after it before all of its lane that nobody waits for."""
        self._of(watched).hurry(watched)

    def rest(self, watched: Watched) -> None:
        """It needs no looking after now. Idempotent."""
        self._of(watched).drop(watched)

    def drop(self, watched: Watched) -> None:
        """Forget it. Idempotent."""
        for rounds in (self._polls, self._credentials, self._late):
            rounds.drop(watched)
        self._are_late.discard(watched)

    def answered(self, watched: Watched) -> None:
        """Vault answered for it, whatever it said."""
        self._are_late.discard(watched)

    def unanswered(self, watched: Watched) -> None:
        """Vault serves, and gave no answer for this one in time."""
        self._are_late.add(watched)

    def forgive(self) -> None:
        """Each is in its own lane again."""
        self._are_late.clear()

    async def close(self) -> None:
        """Begin nothing more. What makes credentials has a moment to end."""
        await asyncio.gather(self._polls.close(0), self._credentials.close(_CLOSE_S), self._late.close(_CLOSE_S))

    def _of(self, watched: Watched) -> Rounds[Watched]:
        if watched in self._are_late:
            return self._late
        return self._credentials if watched.leases else self._polls
