"""A token as it is held, and as the Safe holds it for the agent that comes after a crash. Pure."""

from __future__ import annotations

import hashlib
import math
import secrets
from typing import Final

import msgspec

from agent.sources.vault.answers import Auth, TokenFacts
from agent.vault_ref import Identity

BATCH: Final = "batch"
PREFIX: Final = "vault-token:"
OLD_KEPT: Final = 4
"""Replaced tokens that are remembered, to be revoked with the last reader: those that live longest."""


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """One token. Times are seconds since the epoch."""

    token: str
    accessor: str
    name: str
    """Short, for people: it has nothing of the token."""
    granted_s: float
    """When it was given or last renewed."""
    ttl_s: int
    """How long the first grant was; 0 for a token without end."""
    lives_s: int
    """How long the last grant was."""
    renewable: bool
    batch: bool = False

    def __repr__(self) -> str:
        return f"Held({self.name})"

    @property
    def ends_s(self) -> float:
        """When it ends unless it is renewed."""
        return self.granted_s + self.lives_s if self.ttl_s else math.inf

    @property
    def revocable(self) -> bool:
        """Whether Vault can end it before its time."""
        return not self.batch


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All tokens of an identity. `forgotten`: nobody reads as it, they are to be revoked."""

    address: str
    identity: Identity
    held: Held | None = None
    old: tuple[Held, ...] = ()
    forgotten: bool = False

    def __repr__(self) -> str:
        return f"Record({self.identity})"


def granted(auth: Auth, now_s: float) -> Held:
    """The token of a login."""
    return Held(
        token=auth.client_token,
        accessor=auth.accessor,
        name=f"token {secrets.token_hex(4)}",
        granted_s=now_s,
        ttl_s=auth.lease_duration,
        lives_s=auth.lease_duration,
        renewable=auth.renewable,
        batch=auth.token_type == BATCH,
    )


def renewed(held: Held, auth: Auth, now_s: float) -> Held:
    """The token after its renewal."""
    return msgspec.structs.replace(
        held, granted_s=now_s, lives_s=auth.lease_duration, renewable=held.renewable and auth.renewable
    )


def is_capped(held: Held) -> bool:
    """Whether its renewal gave less than the login did: its max_ttl is near, the next renewal would give less yet."""
    return held.lives_s < held.ttl_s * 0.9 - 1


def facts_of(held: Held, problem: str = "") -> TokenFacts:
    """What people may know of it."""
    return TokenFacts(held.name, held.ends_s, problem)


def safe_name(address: str, identity: Identity) -> str:
    """The name in the Safe: a token is never sent to another Vault than the one that gave it."""
    whole = msgspec.json.encode([address, identity])
    return PREFIX + hashlib.sha256(whole).hexdigest()[:40]


def packed(record: Record) -> bytes:
    """For the Safe."""
    return msgspec.msgpack.encode(record)


def unpacked(blob: bytes) -> Record | None:
    """From the Safe; None for what no version of the agent wrote."""
    try:
        return msgspec.msgpack.decode(blob, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
