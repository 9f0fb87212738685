"""The token of one identity: had once, kept alive, replaced before it ends, revoked when nobody reads as it.

Renewed when two thirds of its life are over (a little earlier or later, so that nodes do not come in step). Where it
cannot be renewed, or a renewal gives less than it used to because max_ttl is near, another one is had at once: so the
old one lives on for at least a third of its life, and what was leased with it can be replaced in peace.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.model import Safe
from agent.sources.vault.answers import TokenFacts
from agent.sources.vault.availability import Availability
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.events import VaultEvents
from agent.sources.vault.login import Logins
from agent.sources.vault.token_record import (
    OLD_KEPT,
    Held,
    Record,
    facts_of,
    granted,
    is_capped,
    packed,
    renewed,
    safe_name,
)
from agent.vault_ref import Identity
from apiclient.backoff import Backoff
from kernelsecret.errors import KernelSecretError, said

RETRY_FIRST_S: Final = 0.5
RETRY_LONGEST_S: Final = 3.5
"""Between two logins that Vault refuses. A pod's new token is tried at once."""
SPREAD_S: Final = 1.0
"""Over which renewals are spread that an outage or a restart has held up."""
_MARGIN_S: Final = 1.0
"""A token that ends sooner is not used: the clocks, and the way to Vault."""


@dataclass(frozen=True, slots=True)
class Room:
    """What all keepers share."""

    address: str
    logins: Logins
    safe: Safe
    events: VaultEvents
    availability: Availability
    wall_clock: Callable[[], float]
    chance: Callable[[], float] = random.random
    new_token: list[Callable[[Identity, float], None]] = field(default_factory=list)


class Keeper:
    """Use it on one event loop; ended by `stop`, or by `forget` and the end of what that returns."""

    def __init__(self, identity: Identity, room: Room, record: Record | None) -> None:
        self.identity = identity
        self._room = room
        self._held = record.held if record else None
        self._old = record.old if record else ()
        self._gone = False
        """Vault has said that the token that is held has ended."""
        self._problem = ""
        self._refused: VaultError | None = None
        self._not_before = 0.0
        self._backoff = Backoff(RETRY_FIRST_S, RETRY_LONGEST_S, room.chance)
        self._login: asyncio.Task[Held] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._schedule()

    @property
    def facts(self) -> TokenFacts | None:
        """What people may know."""
        return facts_of(self._held, self._problem) if self._held else None

    async def current(self) -> Held:
        """The token, had now if there is none. Raises VaultError."""
        held, soon = self._held, self._room.wall_clock() + _MARGIN_S
        if held is not None and not self._gone and held.ends_s > min(soon, held.ends_s - held.lives_s / 3):
            return held
        return await self._log_in()

    async def another(self, ended: Held) -> Held:
        """A token that is not this one, of which Vault said that it has ended. Raises VaultError."""
        if self._held is not None and self._held.token != ended.token:
            return await self.current()
        self._gone = True
        return await self._log_in()

    def credential_came(self) -> None:
        """Its pod has a new token: a refusal may be over."""
        self._not_before = 0.0
        self._backoff.reset()
        if self._problem:
            self._schedule(0.0)

    def stop(self) -> asyncio.Task[Held] | None:
        """Keep it alive no longer. A login that is under way is returned: what it gives must be kept."""
        if self._timer is not None:
            self._timer.cancel()
        if self._keeping is not None:
            self._keeping.cancel()
        return None if self._login is None or self._login.done() else self._login

    async def revoke_all(self) -> None:
        """End every token that it had, as soon as Vault serves."""
        if (running := self.stop()) is not None:
            await asyncio.wait([running])
            self.stop()
        self._keep(Record(self._room.address, self.identity, self._held, self._old, forgotten=True))
        for held in (*self._old, *((self._held,) if self._held else ())):
            await self._revoke(held)
        self._held, self._old = None, ()
        self._room.safe.drop(safe_name(self._room.address, self.identity))

    async def _revoke(self, held: Held) -> None:
        is_ours = self.identity.method is not None
        while is_ours and held.revocable and held.ends_s > self._room.wall_clock():
            try:
                await self._room.logins.revoke(self.identity, held.token)
            except VaultError as error:
                if not error.is_away and error.kind is not Kind.THROTTLED:
                    self._room.events.token_failing(self.identity, error)
                    return
                await self._room.availability.wait_up()
                await asyncio.sleep(self._room.chance() * SPREAD_S + (error.retry_after_s or 0.0))
            else:
                return

    # Logging in

    async def _log_in(self) -> Held:
        """One login at a time, whoever asks."""
        running = self._login
        if running is None or running.done():
            now = asyncio.get_running_loop().time()
            if self._refused is not None and now < self._not_before:
                raise self._refused.with_traceback(None)
            running = self._login = asyncio.get_running_loop().create_task(self._log_in_now())
            running.add_done_callback(_look_at)
        return await asyncio.shield(running)

    async def _log_in_now(self) -> Held:
        room, loop = self._room, asyncio.get_running_loop()
        try:
            auth = await room.logins.log_in(self.identity)
        except VaultError as error:
            self._problem = str(error)
            if not error.is_away:
                self._refused = error
                self._not_before = loop.time() + self._backoff.next_s(error.retry_after_s)
            raise
        self._refused, self._problem = None, ""
        self._backoff.reset()
        now = room.wall_clock()
        before, self._held = self._held, granted(auth, now)
        if before is not None and before.token == self._held.token:  # a given one, which is what there is
            self._held = msgspec.structs.replace(self._held, name=before.name)
            self._gone = False
            self._save()
            self._schedule()
            return self._held
        left = before.ends_s if before is not None and not self._gone and before.ends_s > now else 0.0
        self._gone = False
        self._old = tuple(one for one in self._old if one.ends_s > now)
        if left and before is not None:
            self._old = tuple(sorted((*self._old, before), key=lambda one: one.ends_s)[-OLD_KEPT:])
        self._save()
        self._schedule()
        room.events.logged_in(self.identity, again=before is not None)
        if before is not None:
            for tell in tuple(room.new_token):
                tell(self.identity, left)
        return self._held

    # Keeping it alive

    def _schedule(self, within_s: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held = self._held
        if held is None or math.isinf(held.ends_s):
            return
        if within_s is None:
            due = held.granted_s + held.lives_s * (0.6 + self._room.chance() * 0.1)
            within_s = due - self._room.wall_clock()
        if within_s <= 0:
            within_s = min(self._room.chance() * SPREAD_S, held.lives_s / 10)
        self._timer = asyncio.get_running_loop().call_later(within_s, self._due)

    def _due(self) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep_alive())
            self._keeping.add_done_callback(_look_at)

    async def _keep_alive(self) -> None:
        room, held = self._room, self._held
        if held is None:
            return
        if not room.availability.is_up:
            await room.availability.wait_up()
            await asyncio.sleep(min(room.chance() * SPREAD_S, held.lives_s / 10))
        if held is not self._held:
            return
        try:
            if held.renewable and await self._renew(held):
                self._schedule()
                return
            await self._log_in()
        except VaultError as error:
            self._problem = str(error)
            room.events.token_failing(self.identity, error)
            left = max(0.0, held.ends_s - room.wall_clock())
            self._schedule(max(RETRY_FIRST_S, min(left / 4, 30.0)) * (0.75 + room.chance() / 2))

    async def _renew(self, held: Held) -> bool:
        """Whether the token lives on for as long as it used to. Raises VaultError where Vault is away."""
        try:
            auth = await self._room.logins.renew(self.identity, held.token)
        except VaultError as error:
            if error.is_away or error.kind is Kind.THROTTLED:
                raise
            self._room.events.token_failing(self.identity, error)
            if error.kind is Kind.LOGIN and self._held is held:
                self._gone = True
            return False
        if self._held is not held:
            return True  # replaced meanwhile
        self._held = renewed(held, auth, self._room.wall_clock())
        self._problem = ""
        self._save()
        return not is_capped(self._held)

    def _save(self) -> None:
        self._keep(Record(self._room.address, self.identity, self._held, self._old))

    def _keep(self, record: Record) -> None:
        try:
            self._room.safe.put(safe_name(self._room.address, self.identity), packed(record))
        except (KernelSecretError, OSError) as error:
            self._problem = f"its token is not kept over a restart: {said(error)}"
            self._room.events.token_failing(self.identity, error)


def _look_at(task: asyncio.Task[Held] | asyncio.Task[None]) -> None:
    """Nobody may wait for it any more; its error was told already."""
    if not task.cancelled():
        task.exception()
