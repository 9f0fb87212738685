"""A Vault that is only rules: KV of both versions, leases with max_ttl, tokens that are replaced, outages.

It stands where VaultClient stands, in simulated time; the real Vault has its own tests (tests/vault). What was asked
for and what became of each lease can be looked up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.sources.vault.answers import Answer, Lease, Mount, TokenFacts
from agent.sources.vault.availability import Availability
from agent.sources.vault.errors import Kind, VaultError
from agent.vault_ref import Identity
from tests.unit.sources.vault_events import Silence
from tests.unit.sources.vault_source.simulated import now, wall

ROUND_TRIP_S = 0.004


@dataclass(eq=False)
class Made:
    """One lease as Vault has it."""

    id: str
    path: str
    token: str
    at: float
    ttl: float
    last: float
    """When no renewal makes it live any longer."""
    ends: float
    delivered: bool = True
    """Whether whoever asked has it."""
    revoked: float = float("inf")

    def alive(self, at: float) -> bool:
        return at < min(self.ends, self.revoked)


@dataclass
class Role:
    """How credentials are made at a path."""

    ttl: float = 60.0
    max_ttl: float = 600.0
    renewable: bool = True
    data: Callable[[int], Mapping[str, Any]] = lambda number: {"username": f"u{number}", "password": f"p{number}"}


class FakeVault:
    """`down`, `cut` (made, but the answer is lost) and `forbidden` (paths) may be set at any time."""

    def __init__(self) -> None:
        self.kv2: dict[str, list[dict[str, Any]]] = {}
        self.kv1: dict[str, dict[str, Any]] = {}
        self.static: dict[str, dict[str, Any]] = {}
        self.roles: dict[str, Role] = {}
        self.issued: dict[str, Callable[[int, float], Mapping[str, Any]]] = {}
        self.made: list[Made] = []
        self.asked: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.forgotten: list[Identity] = []
        self.down = self.cut = False
        self.token_left_s, self.token_ends_s = 1800.0, 0.0
        self.failing: VaultError | None = None
        self.deleted: dict[tuple[str, int], str] = {}
        self.created: dict[tuple[str, int], str] = {}
        self._tokens: dict[Identity, int] = {}
        self._listeners: list[Callable[[Identity, float], None]] = []
        self.most_at_once = self._at_once = 0
        self.availability = self._availability()

    def reborn(self) -> None:
        """The agent is another process: nobody listens any more; tokens are still there, by the Safe."""
        self._listeners.clear()
        self.availability = self._availability()

    def count(self, operation: str, path: str = "") -> int:
        return sum(1 for one in self.asked if one[0] == operation and one[1].startswith(path))

    def live(self, path: str = "") -> list[Made]:
        at = now()
        return [one for one in self.made if one.alive(at) and one.path.startswith(path)]

    # As VaultClient

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = {},
        query: Mapping[str, str] = {},
        once: bool = False,
    ) -> Answer:
        token = await self._ask("write" if parameters else "read", identity, path)
        if path == "sys/leases/lookup":
            lease, at = self._lease(parameters["lease_id"]), now()
            return self._answer(path, token, {"ttl": int(lease.ends - at)})
        if path in self.roles:
            return await self._mint(path, token)
        if path in self.issued:
            number = self.count("write" if parameters else "read", path)
            return self._answer(path, token, self.issued[path](number, wall()))
        if path in self.kv1 or path in self.static:
            return self._answer(path, token, (self.kv1 | self.static)[path])
        mount, _, rest = path.partition("/")
        kind, _, secret = rest.partition("/")
        versions = self.kv2.get(f"{mount}/{secret}", [])
        if kind == "metadata" and versions:
            found = {str(number + 1): self._version(mount, secret, number + 1) for number in range(len(versions))}
            return self._answer(path, token, {"current_version": len(versions), "versions": found})
        if kind == "data" and versions:
            number = int(query.get("version", len(versions)))
            data = None if (f"{mount}/{secret}", number) in self.deleted else versions[number - 1]
            shown = {"data": data, "metadata": self._version(mount, secret, number) | {"version": number}}
            answer = self._answer(path, token, shown)
            if data is None:
                raise VaultError(Kind.NOT_FOUND, path, "nothing is there", answer=answer)
            return answer
        raise VaultError(Kind.NOT_FOUND, path, "nothing is there")

    async def renew_lease(self, identity: Identity, lease_id: str, increment_s: int) -> Lease:
        await self._ask("renew", identity, lease_id)
        lease = self._lease(lease_id)
        at = now()
        if not self.roles[lease.path].renewable:
            raise VaultError(Kind.BAD_REQUEST, lease_id, "lease is not renewable")
        lease.ends = min(at + increment_s, lease.last)
        return Lease(lease_id, int(lease.ends - at + 1e-6), True)

    async def revoke_lease(self, identity: Identity, lease_id: str) -> None:
        await self._ask("revoke", identity, lease_id)
        for lease in self.made:
            if lease.id == lease_id and lease.revoked == float("inf"):
                lease.revoked = now()

    async def mount_of(self, identity: Identity, path: str, *, fresh: bool = False) -> Mount:
        await self._ask("mount", identity, path)
        mount = path.partition("/")[0]
        if any(one.startswith(f"{mount}/") for one in self.kv2):
            return Mount(f"{mount}/", "kv", 2)
        if any(one.startswith(f"{mount}/") for one in self.kv1):
            return Mount(f"{mount}/", "kv", 1)
        return Mount(f"{mount}/", "database", 0)

    def token_facts(self, identity: Identity) -> TokenFacts | None:
        found = self._tokens.get(identity)
        return TokenFacts(_name(found), self.token_ends_s or wall() + self.token_left_s) if found else None

    def on_new_token(self, callback: Callable[[Identity, float], None]) -> None:
        self._listeners.append(callback)

    def identities(self) -> list[Identity]:
        return list(self._tokens)

    def forget(self, identity: Identity) -> None:
        self.forgotten.append(identity)
        number = self._tokens.pop(identity, 0)
        self._end_token(_name(number))

    # What happens to it

    def replace_token(self, identity: Identity, left_s: float) -> None:
        """As when a token cannot be renewed any further: the old one lives on for so long."""
        number = self._tokens.get(identity, 0)
        if not number:
            return
        ends = now() + left_s
        for lease in self.made:
            if lease.token == _name(number):
                lease.last = min(lease.last, ends)
                lease.ends = min(lease.ends, ends)
        self._tokens[identity] = number + 1
        for tell in self._listeners:
            tell(identity, wall() + left_s)

    def end(self, lease: Made) -> None:
        """An administrator revokes it."""
        lease.revoked = now()

    # Within

    def _availability(self) -> Availability:
        return Availability(self._probe, Silence(), clock=now, chance=random.Random(1).random)

    async def _probe(self) -> VaultError | None:
        await asyncio.sleep(ROUND_TRIP_S)
        return VaultError(Kind.UNAVAILABLE, "vault", "nobody listens") if self.down else None

    async def _ask(self, operation: str, identity: Identity, path: str) -> str:
        await self.availability.require()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        begun = now()
        try:
            await asyncio.sleep(ROUND_TRIP_S)
        finally:
            self._at_once -= 1
        if self.down:
            error = VaultError(Kind.UNAVAILABLE, path, "nobody listens")
            self.availability.lost(error, begun)
            raise error
        self.asked.append((operation, path))
        if self.failing is not None:
            raise self.failing
        if path in self.forbidden or f"{operation} *" in self.forbidden:
            raise VaultError(Kind.DENIED, path, "permission denied")
        number = self._tokens.setdefault(identity, len(self.asked) * 1000)
        return _name(number)

    async def _mint(self, path: str, token: str) -> Answer:
        role, at = self.roles[path], now()
        number = len(self.made) + 1
        ttl = min(role.ttl, role.max_ttl)
        last = at + role.max_ttl if role.renewable else at + ttl
        lease = Made(f"{path}/{number:04d}", path, token, at, ttl, last, at + ttl, delivered=False)
        self.made.append(lease)
        await asyncio.sleep(ROUND_TRIP_S / 2)  # the answer is on its way
        if self.cut:
            raise VaultError(Kind.UNAVAILABLE, path, "the answer was cut")
        lease.delivered = True
        return self._answer(path, token, role.data(number), lease)

    def _answer(self, path: str, token: str, data: Mapping[str, Any], lease: Made | None = None) -> Answer:
        raw = msgspec.json.encode(data)
        if lease is None:
            return Answer(path, raw, token=token)
        return Answer(path, raw, lease.id, int(lease.ttl), self.roles[lease.path].renewable, (), token)

    def _lease(self, lease_id: str) -> Made:
        for lease in self.made:
            if lease.id == lease_id and lease.alive(now()):
                return lease
        raise VaultError(Kind.BAD_REQUEST, lease_id, "lease not found")

    def _end_token(self, token: str) -> None:
        for lease in self.made:
            if lease.token == token:
                lease.revoked = min(lease.revoked, now())

    def _version(self, mount: str, secret: str, number: int) -> dict[str, Any]:
        deleted = self.deleted.get((f"{mount}/{secret}", number), "")
        created = self.created.get((f"{mount}/{secret}", number), f"2026-11-21T10:00:{number % 60:02d}.123456789Z")
        return {
            "created_time": created,
            "deletion_time": "" if deleted == "destroyed" else deleted,
            "destroyed": deleted == "destroyed",
        }


def _name(number: int) -> str:
    return f"token-{number}"
