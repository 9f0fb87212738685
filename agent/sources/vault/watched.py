"""One secret of Vault as it is known now: how it is read, its last good version, what is wrong, and who wants to know.

Used on the event loop, by one task at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from agent.model import SecretVersion, SourceFacts
from agent.sources.subscriptions import Audience, Subscription
from agent.sources.vault.answers import Answer, Mount
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lease_book import Do, Step
from agent.sources.vault.lease_door import LeaseDoor
from agent.sources.vault.leases import Leases
from agent.sources.vault.news import Asked, Labels, News
from agent.sources.vault.readers import KvReader, PlainReader, Reader
from agent.sources.vault.records import Records
from agent.vault_ref import Identity
from kernelsecret.errors import Refused

_PLAIN = frozenset({"kv", "generic", "cubbyhole"})
"""Engines that hold what somebody wrote: reading makes nothing."""
_MAKING = frozenset({"identity", "gcp", "azure"})
"""Engines that make a new token at each read, without a lease."""
_KIND_AGAIN_S = 30.0
"""How often a path that is not there any more is taken for another kind of secret: engines get upgraded."""


class Door(LeaseDoor, Protocol):
    """What is asked of Vault for one secret: `agent.sources.vault.client.VaultClient`."""

    async def mount_of(self, identity: Identity, path: str, *, fresh: bool = False) -> Mount: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What every watched secret uses. `wall_clock` gives seconds since the epoch that only grow, `chance` 0 to 1."""

    door: Door
    records: Records
    labels: Labels
    wall_clock: Callable[[], float]
    chance: Callable[[], float]


class Watched:
    """Everything about one secret. `busy`, `nudged`, `waiting` and the times belong to who looks after it."""

    def __init__(self, asked: Asked, tools: Tools) -> None:
        self.asked = asked
        self.waiting: list[asyncio.Future[SecretVersion]] = []
        self.version: SecretVersion | None = None
        self.problem = ""
        self.leases: Leases | None = None
        self.busy = self.nudged = self.ended = False
        self.looked_s = self.idle_s = -inf
        self.retry_s: float | None = None
        """How long to wait after a failure; None where there was none."""
        self._tools = tools
        self._loop = asyncio.get_running_loop()
        self._audience = Audience(asked.ref, self._loop)
        self.subscriptions = self._audience.subscriptions
        self._reader: Reader | None = None
        self._trying: Leases | None = None
        self._mount: Mount | None = None
        self._kind_s = -inf
        self._read_ns = 0
        leases = self._made_leases()
        if leases.load():
            self._keep(leases)

    @property
    def is_idle(self) -> bool:
        """Whether nobody watches it, nor waits for it."""
        return not self.subscriptions and not self.waiting

    def facts(self, pace_s: float) -> SourceFacts:
        """What people may know of it."""
        leases, label = self.leases, self.version.label if self.version else ""
        if leases is None:
            how = self._reader.how(pace_s) if self._reader else ""
            return SourceFacts(label=label, read_ns=self._read_ns, how=how, problem=self.problem)
        newest = leases.book.newest
        ends_s = newest.last_s if newest else inf
        return SourceFacts(
            label=label,
            read_ns=int(leases.confirmed_s * 1e9),
            how="lease" if newest is None or newest.lease_id else "issued anew before it ends",
            lease_ends_ns=int(ends_s * 1e9) if ends_s < inf else 0,
            old_leases=len(leases.book.old),
            problem=self.problem or leases.record_problem,
        )

    async def advance(self, *, asked: bool) -> bool:
        """Do what is due; `asked`: somebody waits for the current version, or says that there is a new one. Whether
        the version is another one. Raises Refused: `failed` is to be told of it."""
        before = self.version
        if self.leases is None:
            await self._look()
            asked = False
        if self.leases is not None:
            await self._advance_leases(self.leases, asked=asked)
        self._read_ns = time.time_ns()
        return self.version is not before

    async def _advance_leases(self, leases: Leases, *, asked: bool) -> None:
        wanted = leases.book.wanted
        if asked and wanted and leases.is_good:
            await leases.look()
        step = leases.next_step()
        if asked and wanted and not (leases.is_good and leases.news()):
            step = Step(Do.MINT, -inf)
        if step is not None and step.at_s <= self._tools.wall_clock():
            is_old = step.held is not None and step.held.is_old
            try:
                await leases.do(step)
            except Refused:
                if not is_old:  # nobody is shown those; they are tried again
                    raise
        self._take(leases.news())

    async def _look(self) -> None:
        reader = self._reader
        if reader is None:
            reader = await self._found()
            if reader is None:
                return
        good = self.version.values if self.version else {}
        try:
            news = await reader.look(good)
        except VaultError as error:
            if error.kind in (Kind.NOT_FOUND, Kind.BAD_REQUEST):
                await self._doubt()
            raise
        self._reader = reader
        if isinstance(reader, PlainReader) and reader.made is not None:
            self._keep_made(reader.made)
        else:
            self._take(news)

    async def _doubt(self) -> None:
        """It is not there: perhaps because its engine is another one now."""
        if self._loop.time() < self._kind_s + _KIND_AGAIN_S:
            return
        self._kind_s = self._loop.time()
        with suppress(VaultError):
            mount = await self._tools.door.mount_of(self.asked.identity, self.asked.path, fresh=True)
            if mount != self._mount:
                self._reader = None

    async def _found(self) -> Reader | None:
        """How the secret is read; None where it is credentials made for us, which are then there."""
        asked, tools = self.asked, self._tools
        if asked.request.source.parameters:
            self._keep(self._made_leases())
            return None
        mount: Mount | None = None
        try:
            mount = await tools.door.mount_of(asked.identity, asked.path)
        except VaultError as error:
            if error.kind not in (Kind.DENIED, Kind.NOT_FOUND):
                raise
        self._mount, self._kind_s = mount, self._loop.time()
        if mount is not None and mount.is_kv2:
            return KvReader(asked, tools.door, mount.path, tools.wall_clock)
        if mount is not None and mount.type in _PLAIN:
            return PlainReader(asked, tools.door, tools.labels, counts_down=False)
        if mount is not None and mount.type in _MAKING:
            self._keep(self._made_leases())
            return None
        return await self._tried()

    async def _tried(self) -> Reader | None:
        """Read it once, ready to keep what may be made by that."""
        # The same ones again where no answer came: they know how often that was.
        leases = self._trying = self._trying or self._made_leases()
        try:
            answer = await leases.try_mint()
        except Refused:
            if leases.book.held:  # made, but not fit to be shown
                self._keep(leases)
            raise
        self._trying = None
        if answer is None:
            self._keep(leases)
            return None
        return PlainReader(self.asked, self._tools.door, self._tools.labels, counts_down=True, first=answer)

    def _made_leases(self) -> Leases:
        tools = self._tools
        return Leases(self.asked, tools.door, tools.records, tools.labels, tools.wall_clock, tools.chance)

    def _keep_made(self, answer: Answer) -> None:
        leases = self._made_leases()
        self._keep(leases)
        leases.take(answer)
        self._take(leases.news())

    def _keep(self, leases: Leases) -> None:
        self.leases, self._reader, self._trying = leases, None, None
        self._take(leases.news())

    def _take(self, news: News | None) -> None:
        if news is not None and (self.version is None or news.label != self.version.label or self.leases is None):
            self.version = SecretVersion(self.asked.ref, news.values, news.label)

    def back(self) -> None:
        """Vault serves again: what was put off is due."""
        for leases in (self.leases, self._trying):
            if leases is not None:
                leases.book.back()

    def rest(self) -> None:
        """Nobody wants it now: hold no value that nobody keeps up to date."""
        if self.leases is None and not self.busy:
            self.version = self._reader = None

    # Telling

    def tell_state(self, subscription: Subscription) -> None:
        """Tell one observer how things stand, so that nothing between its fetch and its watch is lost."""
        self._audience.tell_state(subscription, self.version, self.problem)

    def report(self, problem: str, *, changed: bool, changed_ns: int = 0) -> None:
        """Tell what came of a look: what is wrong, and whether there is another version, seen at `changed_ns`."""
        self.problem = problem
        version = self.version
        if version is not None and changed_ns:
            version = replace(version, changed_ns=changed_ns)
        self._audience.report(version, problem, changed=changed)
