"""What is asked of Vault about one lease: how long it lives, that it lives on, and its end where the policy lets that
be had at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.sources.vault.answers import Lease, TokenFacts
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.lease_book import Held, LeaseBook
from agent.sources.vault.lifetimes import seconds
from agent.sources.vault.readers import ReadDoor
from agent.vault_ref import Identity

_LOOKUP = "sys/leases/lookup"


class LeaseDoor(ReadDoor, Protocol):
    """What is asked of Vault for leases: `agent.sources.vault.client.VaultClient`."""

    async def renew_lease(self, identity: Identity, lease_id: str, increment_s: int) -> Lease: ...

    async def revoke_lease(self, identity: Identity, lease_id: str) -> None: ...

    def token_facts(self, identity: Identity) -> TokenFacts | None: ...


async def left_s(door: LeaseDoor, identity: Identity, held: Held) -> float:
    """Seconds that the lease lives, by Vault's word; 0 where it is gone. Raises VaultError."""
    try:
        answer = await door.read(identity, _LOOKUP, parameters={"lease_id": held.lease_id})
    except VaultError as error:
        if error.kind in (Kind.BAD_REQUEST, Kind.NOT_FOUND):
            return 0.0
        raise
    return seconds(answer.data.get("ttl"))


async def renewed(door: LeaseDoor, identity: Identity, book: LeaseBook, held: Held, clock: Callable[[], float]) -> bool:
    """Renew the lease, and write into the book what came of that. False where it was not renewed, and will not be.
    Raises VaultError where it may be another time."""
    asked_s = clock()
    try:
        lease = await door.renew_lease(identity, held.lease_id, max(1, int(held.ttl_s)))
    except VaultError as error:
        if error.kind is Kind.BAD_REQUEST:  # gone, or not to be renewed
            await _not_renewed(door, identity, book, held, clock)
        elif error.kind is Kind.DENIED:
            book.not_renewable(held)
        else:
            raise
        return False
    book.renewed(held, asked_s, lease.lease_s, lease.renewable)
    return True


async def _not_renewed(
    door: LeaseDoor, identity: Identity, book: LeaseBook, held: Held, clock: Callable[[], float]
) -> None:
    now, left = clock(), 0.0
    try:
        left = await left_s(door, identity, held)
    except VaultError as error:
        if error.kind is not Kind.DENIED:
            raise
    if left <= 0:
        book.died(held, now)
    else:
        held.ends_s = min(held.ends_s, now + left)
        book.not_renewable(held)


async def revoked(door: LeaseDoor, identity: Identity, held: Held) -> bool:
    """End the lease. False where the policy lets it be neither revoked nor cut short. Raises VaultError."""
    try:
        await door.revoke_lease(identity, held.lease_id)
    except VaultError as error:
        if error.kind is Kind.DENIED:
            return await _cut_short(door, identity, held)
        if error.kind is not Kind.BAD_REQUEST:  # that is nothing that could be revoked
            raise
    return True


async def _cut_short(door: LeaseDoor, identity: Identity, held: Held) -> bool:
    """Who may not revoke may renew, by Vault's default policy: for one second, after which Vault revokes it."""
    if not held.renewable:
        return False
    try:
        lease = await door.renew_lease(identity, held.lease_id, 1)
    except VaultError as error:
        if error.kind is Kind.BAD_REQUEST:
            return True
        if error.kind is Kind.DENIED:
            return False
        raise
    return lease.lease_s <= 1
