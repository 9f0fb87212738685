"""The `vault` source: secrets of a Vault, each read as the pod that shows it.

KV is polled (its metadata, where the policy lets them be read), credentials with a lease are kept alive and replaced
before they die, what has an end of its own is made anew before that. See docs/vault.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

from agent.model import Observer, Safe, SecretRef, SecretVersion, SourceFacts
from agent.sources.subscriptions import Subscription, leaving, silence
from agent.sources.vault.availability import Availability
from agent.sources.vault.errors import VaultError
from agent.sources.vault.known import Known
from agent.sources.vault.lanes import Lanes
from agent.sources.vault.looking import Looking, answer
from agent.sources.vault.news import Labels, asked, steady_wall_clock
from agent.sources.vault.records import Records
from agent.sources.vault.timing import LOOK_S, Timing
from agent.sources.vault.watched import Door, Tools, Watched
from agent.vault_ref import SOURCE, Identity
from kernelsecret.errors import Code, Refused

LINGER_S: Final = 10.0
"""How long credentials outlive their last reader: a publish that failed is tried again, a pod is replaced."""
SWEEP_S: Final = 60.0
"""After so long an agent that was started again has taken over its volumes: what none of them wants is ended."""


class Client(Door, Protocol):
    """What is asked of the door to Vault: `agent.sources.vault.client.VaultClient`."""

    @property
    def availability(self) -> Availability: ...

    def on_new_token(self, callback: Callable[[Identity, float], None]) -> None: ...

    def identities(self) -> list[Identity]: ...

    def forget(self, identity: Identity) -> None: ...


class VaultSource:
    """Implements `agent.model.Source`. Made in a running loop. It does not close the client, which others may use.

    `pace` gives seconds between two looks at a secret that has to be polled; it is asked again each time. `count` hears
    of what is wrong with an answer, or with what is asked for: of the rest the client tells.
    """

    name = SOURCE

    def __init__(
        self,
        client: Client,
        safe: Safe,
        pace: Callable[[SecretRef], float],
        *,
        linger_s: float = LINGER_S,
        sweep_s: float = SWEEP_S,
        count: Callable[[VaultError], None] = lambda error: None,
        wall_clock: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._chance = client, chance
        self._records = Records(safe)
        clock = wall_clock or steady_wall_clock()
        self._timing = Timing(pace, linger_s, clock, chance)
        self._tools = Tools(client, self._records, Labels(safe), clock, chance)
        self._loop = asyncio.get_running_loop()
        self._lanes = Lanes(self._look_after, self._admit)
        self._looking = Looking(client.availability, self._lanes, count)
        self._all = Known()
        self._parked: set[Watched] = set()
        self._closed = False
        self._over = asyncio.Event()
        self._not_up = client.availability.on_up(self._up)
        client.on_new_token(self._new_token)
        self._sweeping = self._loop.call_later(sweep_s, self._sweep)

    # agent.model.Source

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """The current version. Credentials that are still good are given as they are; everything else is looked at.

        Raises Refused: why Vault does not give it to this reader, or does not serve.
        """
        watched = self._watched(ref)
        try:
            leases = watched.leases
            if leases is not None and leases.is_good and leases.news() and watched.version:
                return watched.version
            await self._client.availability.require()
            future: asyncio.Future[SecretVersion] = self._loop.create_future()
            watched.waiting.append(future)
            if not watched.busy:
                self._lanes.hurry(watched)
            return await future
        finally:
            self._check_idle(watched)

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        """Tell the observer of every version until the returned function is called.

        Its first call tells the state at the start of watching (`changed_ns` 0), where there is one.
        """
        watched = self._watched(ref)
        subscription = Subscription(observer)
        watched.subscriptions.append(subscription)
        watched.tell_state(subscription)
        self._plan(watched)
        return leaving(subscription, watched.subscriptions, lambda: self._check_idle(watched))

    def nudge(self, path: str) -> int:
        """Look at once at what is read from this path of Vault's API, at most every LOOK_S seconds, the last time
        after the last call. How many watched secrets that are."""
        found = [watched for watched in self._all.at(path) if watched.subscriptions]
        for watched in found:
            watched.nudged = True
            if not watched.busy:
                self._soon(watched)
        return len(found)

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        """What is known of a watched secret."""
        watched = self._all.get(ref)
        return watched.facts(self._timing.pace_of(ref)) if watched and watched.subscriptions else None

    def holds_old(self, ref: SecretRef) -> bool:
        """Whether leases of earlier versions are not revoked yet."""
        watched = self._all.get(ref)
        return bool(watched and watched.subscriptions and watched.leases and watched.leases.book.old)

    def all_read(self, ref: SecretRef, label: str) -> None:
        """Leases of versions before this one are revoked after a grace."""
        watched = self._all.get(ref)
        if watched and watched.leases and watched.leases.all_read(label):
            self._plan(watched)

    async def end(self) -> None:
        """Nobody wants anything any more: wait until every lease is revoked, however long Vault is away. The client
        then forgets whoever read."""
        for watched in self._all:
            silence(watched.subscriptions)
            self._end(watched)
        if tuple(self._all):
            self._over.clear()
            await self._over.wait()

    async def close(self) -> None:
        """Ask nothing more, and tell nothing. Leases live on, in the Safe, for the agent that comes next."""
        self._closed = True
        self._sweeping.cancel()
        self._not_up()
        for watched in self._all:
            silence(watched.subscriptions)
        await self._lanes.close()
        for watched in self._all:
            answer(watched.waiting, Refused(Code.UNAVAILABLE, str(watched.asked.ref), "the agent is stopping"))

    # Which secrets there are

    def _watched(self, ref: SecretRef) -> Watched:
        found = self._all.get(ref)
        if found is None:
            found = self._add(ref)
        elif found.ended:
            found.ended = False
            if found.leases:
                found.leases.book.wanted = True
        return found

    def _add(self, ref: SecretRef) -> Watched:
        watched = Watched(asked(ref), self._tools)
        watched.idle_s = self._loop.time()
        self._all.add(watched)
        return watched

    def _discard(self, watched: Watched) -> None:
        self._lanes.drop(watched)
        self._parked.discard(watched)
        self._records.drop(watched.asked.ref)
        self._all.drop(watched)
        if not tuple(self._all):
            self._over.set()
        if not self._all.of(watched.asked.identity):
            self._client.forget(watched.asked.identity)

    def _sweep(self) -> None:
        """End what an earlier agent held and nobody wants: its volumes ended while there was no agent."""
        for ref in self._records.refs():
            if self._all.get(ref) is None:
                self._end(self._add(ref))
        for identity in self._client.identities():
            if not self._all.of(identity):
                self._client.forget(identity)

    def _check_idle(self, watched: Watched) -> None:
        if watched.is_idle and not watched.ended and not self._closed:
            watched.idle_s = self._loop.time()
            watched.rest()
            self._plan(watched)

    def _end(self, watched: Watched) -> None:
        watched.ended = True
        if watched.busy:
            return  # it may be making credentials just now: they are ended afterwards
        if watched.leases is None:
            self._discard(watched)
        else:
            watched.leases.book.wanted = False
            self._plan(watched)

    # When to look

    def _plan(self, watched: Watched) -> None:
        """Set when it is due next."""
        if watched.busy or self._closed or watched not in self._all:
            return
        if watched.ended and watched.leases and watched.leases.book.is_over:
            self._discard(watched)
            return
        at = self._timing.due(watched, self._loop.time())
        if at is None:
            self._lanes.rest(watched)
        else:
            self._lanes.put(watched, at)

    def _soon(self, watched: Watched) -> None:
        self._lanes.put_sooner(watched, max(self._loop.time(), watched.looked_s + LOOK_S))

    def _admit(self, watched: Watched) -> bool:
        """Whether to look now that its time has come."""
        availability = self._client.availability
        now = self._loop.time()
        if self._timing.has_lingered(watched, now):
            self._end(watched)
            return False
        if not availability.is_up and not watched.waiting:
            self._parked.add(watched)
            watched.report(watched.problem or str(availability.problem), changed=False)
            return False
        if self._timing.is_early(watched, now):
            self._plan(watched)
            return False
        return True

    def _up(self) -> None:
        """Vault serves again: everything is looked at within a second, no two in step."""
        now = self._loop.time()
        self._lanes.forgive()
        for watched in self._all:
            watched.back()
            if watched in self._parked or watched.problem:
                self._lanes.put(watched, now + self._chance())
        self._parked.clear()

    def _new_token(self, identity: Identity, ends_s: float) -> None:
        facts = self._client.token_facts(identity)
        for watched in self._all.of(identity):
            if watched.leases is not None:
                watched.leases.token_replaced(facts.name if facts else "", ends_s)
                self._plan(watched)
            elif watched.problem and not watched.busy:
                self._soon(watched)

    async def _look_after(self, watched: Watched) -> None:
        if watched.busy:
            return  # whoever is busy with it sees to what has come meanwhile
        try:
            await self._looking.look(watched)
        finally:
            if watched.ended:
                self._end(watched)
            elif watched.waiting:  # since the look began: what it found may be older
                self._lanes.hurry(watched)
            else:
                self._plan(watched)
