"""All the keys of the webhook at one moment, as its replicas share them. No I/O here; times are given.

Each authority and each signing key is first published, then used, then kept for those who still hold what it signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from certs.authority import Authority
from certs.bundle import bundle_of
from certs.leaf import Leaf
from certs.signing import SigningKey
from kernelsecret.trust import Trust


class Perishable(Protocol):
    """What a ring holds: an Authority or a SigningKey."""

    @property
    def not_after(self) -> datetime: ...


T = TypeVar("T", bound=Perishable)


class Stage(IntEnum):
    """Where in its life a key is. Exactly one of a ring is current."""

    CURRENT = 0
    NEXT = 1
    FORMER = 2


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """An authority or a signing key, and when what was done with it.

    `published_at` is when it was first seen where its verifiers look; `used_from` when it began to sign; `retired_at`
    when it ceased to.
    """

    item: T
    made_at: datetime
    published_at: datetime | None = None
    used_from: datetime | None = None
    retired_at: datetime | None = None

    @property
    def stage(self) -> Stage:
        """Current, next or former."""
        if self.retired_at is not None:
            return Stage.FORMER
        return Stage.NEXT if self.used_from is None else Stage.CURRENT


@dataclass(frozen=True, slots=True)
class KeyState:
    """Both rings and the leaf. The rings are in the order of their stages, and the leaf is by the current authority."""

    authorities: tuple[Kept[Authority], ...]
    leaf: Leaf
    signing_keys: tuple[Kept[SigningKey], ...]

    @property
    def authority(self) -> Authority:
        """The one that signs leaves."""
        return current(self.authorities)

    @property
    def signing_key(self) -> SigningKey:
        """The one that signs registrations."""
        return current(self.signing_keys)

    def bundle(self, now: datetime) -> str:
        """PEM of every authority that has not expired, the current one first."""
        return bundle_of([kept.item.certificate_pem for kept in self.authorities], now)

    def trust(self, now: datetime) -> Trust:
        """What agents are to trust, public halves only."""
        keys = tuple(kept.item.public for kept in self.signing_keys if kept.item.not_after > now)
        return Trust(authorities=self.bundle(now), registration_keys=keys)


def current(ring: tuple[Kept[T], ...]) -> T:
    """The item in use."""
    return next(kept.item for kept in ring if kept.stage is Stage.CURRENT)


def ordered(ring: list[Kept[T]]) -> tuple[Kept[T], ...]:
    """Current, next, former; the oldest first in each."""
    return tuple(sorted(ring, key=lambda kept: (kept.stage, kept.made_at)))
