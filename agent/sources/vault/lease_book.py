"""What is held of one secret's leases, and what is to be done next. Pure: times come in, steps come out.

The rules:
- nothing is minted while the newest credentials are good and can be kept so: they are renewed after two thirds of
  their time;
- where they cannot be kept (renewals are capped by max_ttl, refused, or their token has been replaced), new ones are
  minted when a third of their time is left, or at once where less is;
- earlier ones are kept good until every reader has the newer ones (`all_read`, and a grace), and revoked then;
- when nobody wants the secret any more, all are revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf

GRACE_S = 5.0
"""From the last reader's first read of the new credentials to the revocation of the old: connections being opened."""
LONGEST_OLD_S = 86_400.0
"""Old credentials end at last after this, though nobody ever said that they have been replaced everywhere."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 5.0
_PART_RENEW = 2 / 3
_PART_SPARE = 1 / 3
_PART_LAST = 1 / 6
"""What may be left of a lease whose renewals fail, for whatever reason, when new credentials are asked for."""
_SPREAD = 0.1
"""By how much of a lease's time the secrets of a node are spread, so that a thousand do not come at once."""


class Do(Enum):
    """What to do with a lease."""

    MINT = "mint"
    RENEW = "renew"
    REVOKE = "revoke"
    FORGET = "forget"
    """It has ended by itself."""


@dataclass(eq=False, slots=True)
class Held:
    """One lease, or credentials that end by themselves: those have no `lease_id`. Times are seconds since the epoch."""

    label: str
    lease_id: str = field(repr=False)
    token: str
    """The name of the token that it hangs on."""
    minted_s: float
    renewed_s: float
    """When its present term began."""
    ends_s: float
    ttl_s: float
    """What it was given when it was minted: what each renewal asks for."""
    renewable: bool
    values: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    """Of the newest only; earlier ones are only kept alive."""
    token_seen_s: float = inf
    """When its token ends unless that is renewed, as last seen."""
    token_ends_s: float = inf
    """Finite once its token has been replaced: when that one ends."""
    superseded_s: float = inf
    doomed_s: float = inf
    """When it is to be revoked."""
    is_stuck: bool = False
    """Vault does not let us revoke it."""
    spread: float = 0.0
    """0 to 1, by chance: how early in the time that there is this one is renewed."""
    tries: int = 0
    retry_s: float = 0.0

    @property
    def last_s(self) -> float:
        """When it dies, unless it is renewed."""
        return min(self.ends_s, self.token_ends_s)

    @property
    def can_renew(self) -> bool:
        """Whether a renewal makes it last longer."""
        return self.renewable and self.ends_s - self.renewed_s > self.ttl_s * 0.95 - 1

    @property
    def is_old(self) -> bool:
        """Whether newer credentials have taken its place."""
        return self.superseded_s < inf

    @property
    def renew_s(self) -> float:
        """When two thirds of the term are over, or a little before."""
        return self.renewed_s + (self.ends_s - self.renewed_s) * (_PART_RENEW - _SPREAD * self.spread)

    @property
    def replace_s(self) -> float:
        """When new credentials are due, infinite where renewals do."""
        if self.token_ends_s < inf:
            return self.renewed_s
        if not self.can_renew:
            return min(self.last_s, self.ends_s - self.ttl_s * (_PART_SPARE + _SPREAD * self.spread))
        return self.ends_s - self.ttl_s * _PART_LAST if self.tries else inf


@dataclass(frozen=True, slots=True)
class Step:
    """What is next, and when. `held` is None for MINT."""

    do: Do
    at_s: float
    held: Held | None = None


class LeaseBook:
    """The leases of one secret, oldest first; the last one is the newest, whose values are shown."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.wanted = True
        self.asked_s: float | None = None
        """Since when new credentials have been asked for without an answer: there may be some that nobody knows."""
        self.mint_tries = 0
        self.mint_retry_s = 0.0
        self.unanswered_tries = 0
        self.ask_again_s = 0.0
        """Vault is not asked for new credentials before."""

    @property
    def newest(self) -> Held | None:
        """What is shown."""
        return self.held[-1] if self.held and not self.held[-1].is_old else None

    @property
    def old(self) -> list[Held]:
        """Leases that newer ones have replaced, and that are not ended yet."""
        return [held for held in self.held if held.is_old and held.lease_id]

    def next_step(self, now: float) -> Step | None:
        """The step that is due first, None where nothing ever will be."""
        steps = [step for held in self.held for step in self._steps(held, now)]
        if self.newest is None and self.wanted:
            steps.append(Step(Do.MINT, self.mint_retry_s))
        return min(steps, key=lambda step: step.at_s, default=None)

    def _steps(self, held: Held, now: float) -> list[Step]:
        if held.is_old or not self.wanted:
            return self._steps_to_end(held, now)
        steps = [Step(Do.MINT, max(held.replace_s, self.mint_retry_s))]
        return steps + self._renewal(held)

    def _steps_to_end(self, held: Held, now: float) -> list[Step]:
        if not held.lease_id or held.last_s <= now or (held.is_stuck and not self.wanted):
            return [Step(Do.FORGET, now, held)]
        doomed = min(held.doomed_s, held.superseded_s + LONGEST_OLD_S) if self.wanted else 0.0
        if held.is_stuck:
            return [Step(Do.FORGET, held.last_s, held)]
        steps = [Step(Do.REVOKE, max(doomed, held.retry_s), held), Step(Do.FORGET, held.last_s, held)]
        return steps if doomed <= now else steps + self._renewal(held)

    def _renewal(self, held: Held) -> list[Step]:
        # Also of one that should be dead by now: after an outage it may still be there.
        at = max(held.renew_s, held.retry_s)
        return [Step(Do.RENEW, at, held)] if held.can_renew and at < held.token_ends_s else []

    # What happened

    def minted(self, held: Held) -> None:
        """New credentials: what was the newest is kept only until it has been replaced everywhere."""
        self.asked_s = None
        self.mint_tries, self.mint_retry_s = 0, 0.0
        self.unanswered_tries, self.ask_again_s = 0, 0.0
        if (before := self.newest) is not None:
            before.superseded_s = held.minted_s
            before.values = {}
        self.held.append(held)

    def unfit(self, held: Held) -> None:
        """New credentials that cannot be shown: they are revoked, and those before stay the newest."""
        self.asked_s = None
        held.superseded_s = held.doomed_s = held.minted_s
        self.held.insert(0, held)

    def renewed(self, held: Held, asked_s: float, lease_s: float, renewable: bool) -> None:
        """A renewal that was asked for at `asked_s` gave so many seconds."""
        held.renewed_s, held.ends_s = asked_s, asked_s + lease_s
        held.renewable = held.renewable and renewable
        held.tries, held.retry_s = 0, 0.0

    def not_renewable(self, held: Held) -> None:
        """No renewal is to be had: it lives until its end."""
        held.renewable = False
        held.tries, held.retry_s = 0, 0.0

    def died(self, held: Held, now: float) -> None:
        """It ended before its time. The newest one's values stay, for they are the last there are."""
        held.ends_s = min(held.ends_s, now)
        held.renewable = False

    def ended(self, held: Held) -> None:
        """It is revoked, or forgotten."""
        if held in self.held:
            self.held.remove(held)

    def failed(self, held: Held | None, now: float, least_s: float = 0.0) -> None:
        """A step (MINT where there is no `held`) did not work: it is tried again, soon and then every few seconds."""
        tries = held.tries if held else self.mint_tries
        at = now + max(least_s, min(FIRST_RETRY_S * 2**tries, LONGEST_RETRY_S))
        if held:
            held.tries, held.retry_s = min(tries + 1, 8), at
        else:
            self.mint_tries, self.mint_retry_s = min(tries + 1, 8), max(at, self.mint_retry_s)

    def unanswered(self, now: float) -> None:
        """New credentials were asked for, and no answer came. There may be some that nobody knows, and that live until
        they end by themselves or with their token: so whoever asks meanwhile, they are asked for no sooner than this.
        """
        self.ask_again_s = now + min(FIRST_RETRY_S * 2**self.unanswered_tries, LONGEST_RETRY_S)
        self.unanswered_tries = min(self.unanswered_tries + 1, 8)

    def back(self) -> None:
        """Vault serves again: what was put off is due."""
        self.mint_tries, self.mint_retry_s = 0, 0.0
        self.unanswered_tries, self.ask_again_s = 0, 0.0
        for held in self.held:
            held.tries, held.retry_s = 0, 0.0

    def token_replaced(self, token: str, ends_s: float) -> None:
        """The token before this one ends at `ends_s`, and what hangs on it. When a token before that one ends is known
        already."""
        for held in self.held:
            if held.lease_id and held.token != token and held.token_ends_s == inf:
                held.token_ends_s = ends_s

    def all_read(self, label: str, now: float) -> bool:
        """Every reader has the version of this label: earlier leases end after a grace. Whether that is news."""
        at = next((number for number, held in enumerate(self.held) if held.label == label), 0)
        news = False
        for held in self.held[:at]:
            news |= held.doomed_s > now + GRACE_S
            held.doomed_s = min(held.doomed_s, now + GRACE_S)
        return news

    @property
    def is_over(self) -> bool:
        """Nobody wants it, and nothing is held any more."""
        return not self.wanted and not self.held
