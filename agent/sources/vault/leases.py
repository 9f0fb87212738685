"""Credentials that are made for us, and end: each step that `lease_book` says, done at Vault and kept in the Safe."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from agent.model import SecretRef
from agent.sources.vault.answers import Answer
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.flatten import refuse_emptied, values_of
from agent.sources.vault.lease_book import Do, Held, LeaseBook, Step
from agent.sources.vault.lease_door import LeaseDoor, left_s, renewed, revoked
from agent.sources.vault.lifetimes import life_of
from agent.sources.vault.news import Asked, Labels, News
from agent.sources.vault.records import Records
from kernelsecret.errors import Refused

_UNFIT_RETRY_S = 60.0
"""Credentials that cannot be shown are not asked for again sooner: each answer makes new ones."""
_NO_ANSWER = frozenset({Kind.TIMEOUT, Kind.UNAVAILABLE, Kind.BAD_ANSWER})
"""After these nobody knows whether Vault made credentials."""


class Leases:
    """Those of one secret. One step at a time. `clock` gives seconds since the epoch that only grow."""

    def __init__(
        self,
        asked: Asked,
        door: LeaseDoor,
        records: Records,
        labels: Labels,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._asked, self._door, self._records, self._labels = asked, door, records, labels
        self._clock, self._chance = clock, chance
        self.book = LeaseBook()
        self._unfit: Refused | None = None
        self._unfit_s = 0.0
        self._unanswered: VaultError | None = None
        self.record_problem = ""
        self.confirmed_s = 0.0
        """When Vault last said that the newest is good."""

    @property
    def ref(self) -> SecretRef:
        """Whose they are."""
        return self._asked.ref

    def load(self) -> bool:
        """Take over what an earlier agent held. Whether there was anything but an unanswered question."""
        book = self._records.load(self.ref)
        if book is None or not book.held:
            return False
        self.book = book
        self._heed_token()
        if newest := book.newest:
            self.confirmed_s = newest.renewed_s
        return True

    def news(self) -> News | None:
        """The newest credentials, as they were minted, by this agent or an earlier one."""
        newest = self.book.newest
        return News(newest.values, newest.label) if newest and newest.values else None

    def next_step(self) -> Step | None:
        """What is due first."""
        self._heed_token()
        return self.book.next_step(self._clock())

    def due_s(self) -> float | None:
        """When there is something to do, or to be looked whether the token has been renewed. None: never."""
        step = self.next_step()
        times = [step.at_s] if step else []
        facts, newest = self._door.token_facts(self._asked.identity), self.book.newest
        if facts and newest and newest.lease_id and newest.token_ends_s == inf and facts.ends_s > self._clock():
            times.append(facts.ends_s)
        return min(times, default=None)

    def _heed_token(self) -> None:
        """Leases end with the token that they hang on, whatever Vault has said of their own time."""
        now, facts = self._clock(), self._door.token_facts(self._asked.identity)
        name = facts.name if facts else ""
        for held in self.book.held:
            if not held.lease_id or held.token_ends_s < inf:
                continue
            if held.token != name:
                held.token_ends_s = held.token_seen_s if held.token_seen_s < inf else now
            elif facts and held.minted_s < facts.ends_s <= now:  # what it gave later proves the node's clock wrong
                held.token_ends_s = facts.ends_s

    @property
    def is_good(self) -> bool:
        """Whether the newest credentials work, as far as is known."""
        newest = self.book.newest
        return newest is not None and newest.last_s > self._clock()

    async def do(self, step: Step) -> None:
        """Raises Refused where it did not work; it is put off then."""
        held = step.held
        try:
            if held is None:
                await self.mint()
            elif step.do is Do.RENEW:
                await self._renew(held)
            elif step.do is Do.REVOKE:
                await self._revoke(held)
            else:
                self.book.ended(held)
        except Refused:
            self.book.failed(held, self._clock())
            raise
        finally:
            self.save()

    async def mint(self) -> None:
        """Ask for new credentials. Raises Refused; what came but is not fit to be shown is revoked."""
        if self._clock() < self._unfit_s and self._unfit is not None:
            raise self._unfit.with_traceback(None)
        self.take(await self._ask())

    async def try_mint(self) -> Answer | None:
        """Ask, not knowing whether the answer has credentials that are made for us: None where it had, else it."""
        try:
            answer = await self._ask()
        except Refused:
            self.save()
            raise
        if answer.lease_id:
            self.take(answer)
            return None
        self.book.asked_s = None
        self.save()
        return answer

    async def _ask(self) -> Answer:
        if self._clock() < self.book.ask_again_s and self._unanswered is not None:
            raise self._unanswered.with_traceback(None)
        self.book.asked_s = self._clock()
        self.save()  # before Vault is asked: whoever finds this record knows that there may be a lease
        source = self._asked.request.source
        try:
            return await self._door.read(self._asked.identity, source.path, parameters=source.parameters, once=True)
        except VaultError as error:
            if error.kind in _NO_ANSWER:
                self.book.unanswered(self._clock())
                self._unanswered = error
            else:
                self.book.asked_s = None
            raise

    def take(self, answer: Answer) -> None:
        """The answer's credentials are the newest from now on. Raises Refused where they cannot be shown."""
        now = self._clock()
        held = self._held(answer, self.book.asked_s or now)
        try:
            data = answer.data
            if not held.lease_id:
                held.ttl_s = life_of(data, answer.lease_s, now)
                held.ends_s = held.renewed_s + held.ttl_s
            held.values = values_of(self._asked.name, data)
            before = self.book.newest
            refuse_emptied(self._asked.name, before.values if before else {}, held.values)
        except Refused as refusal:
            self.book.unfit(held)
            self.book.failed(None, now, _UNFIT_RETRY_S)
            self._unfit, self._unfit_s = refusal, now + _UNFIT_RETRY_S
            self.save()
            raise
        held.label = held.label or self._labels.of_values("issued", held.values)
        self.book.minted(held)
        self.confirmed_s = held.minted_s
        self.save()  # before anybody is told: what is shown is never lost

    def _held(self, answer: Answer, asked_s: float) -> Held:
        facts = self._door.token_facts(self._asked.identity)
        return Held(
            label=self._labels.of("lease", answer.lease_id.encode()) if answer.lease_id else "",
            lease_id=answer.lease_id,
            token=answer.token,
            minted_s=asked_s,
            renewed_s=asked_s,
            ends_s=asked_s + answer.lease_s,
            ttl_s=float(answer.lease_s),
            renewable=answer.renewable and bool(answer.lease_id),
            token_seen_s=facts.ends_s if facts and answer.lease_id else inf,
            spread=self._chance(),
        )

    async def look(self) -> None:
        """Somebody says that there is news: are the newest credentials still there? None are made while they are."""
        newest = self.book.newest
        if newest is None or not newest.lease_id:
            return
        now = self._clock()
        try:
            left = await left_s(self._door, self._asked.identity, newest)
        except VaultError as error:
            if error.kind is Kind.DENIED:  # then only the next renewal tells
                return
            raise
        if left <= 0:
            self.book.died(newest, self._clock())
        else:
            newest.ends_s = min(newest.ends_s, now + left + 1)  # it tells whole seconds
            self.confirmed_s = now
        self.save()

    def token_replaced(self, name: str, ends_s: float) -> None:
        """Another token has taken the place of the one that leases hang on."""
        self.book.token_replaced(name, ends_s)
        self.save()

    def all_read(self, label: str) -> bool:
        """Every reader has the version of this label. Whether that is news."""
        news = self.book.all_read(label, self._clock())
        if news:
            self.save()
        return news

    def save(self) -> None:
        """Bring the record up to date; one for nothing is dropped."""
        book = self.book
        facts = self._door.token_facts(self._asked.identity)
        for held in book.held:
            if facts and facts.name == held.token:
                held.token_seen_s = facts.ends_s
        if not book.held and book.asked_s is None:
            self._records.drop(self.ref)
            return
        try:
            fits = self._records.save(self.ref, book)
            self.record_problem = "" if fits else "too large to be kept for a restart of the agent"
        except Refused as refusal:
            self.record_problem = f"not kept for a restart of the agent ({refusal.why})"

    async def _renew(self, held: Held) -> None:
        if await renewed(self._door, self._asked.identity, self.book, held, self._clock) and held is self.book.newest:
            self.confirmed_s = held.renewed_s

    async def _revoke(self, held: Held) -> None:
        if await revoked(self._door, self._asked.identity, held):
            self.book.ended(held)
        else:
            held.is_stuck = True
