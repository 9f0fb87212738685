"""A store of one Lease in made time, with a way to it that delays, loses and doubles; and candidates that use it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from apiclient.client import ApiClient
from apiclient.election import LeaderElection
from apiclient.errors import REASON_TIMEOUT, REASON_UNREACHABLE, ApiError
from apiclient.lease import Lease


@dataclass
class Store:
    """The one truth: a lease, and its version."""

    lease: Lease | None = None
    version: int = 0

    def write(self, body: bytes, *, create: bool) -> bytes:
        lease = msgspec.json.decode(body, type=Lease)
        if create and self.lease is not None:
            raise ApiError("POST", 409, "AlreadyExists")
        if not create and (self.lease is None or lease.metadata.resource_version != str(self.version)):
            raise ApiError("PUT", 409, "Conflict")
        self.version += 1
        lease.metadata.resource_version = str(self.version)
        self.lease = lease
        return self.read()

    def read(self) -> bytes:
        if self.lease is None:
            raise ApiError("GET", 404, "NotFound")
        return msgspec.json.encode(self.lease)


@dataclass
class Way(ApiClient):
    """One candidate's way to the store: seconds there and back, and whether anything comes through."""

    store: Store
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    slowest_s: float = 0.0
    cut: bool = False
    late_s: float = 0.0
    """Seconds that answers are held back, beside what chance does."""
    asked: int = 0
    late: set[asyncio.Task[bytes]] = field(default_factory=set)

    async def get(self, path: str, *, timeout_s: float = 5.0, **_: object) -> bytes:
        return await self._go(None, timeout_s)

    async def create(self, path: str, body: bytes, *, timeout_s: float = 5.0) -> bytes:
        return await self._go((body, True), timeout_s)

    async def replace(self, path: str, body: bytes, *, timeout_s: float = 5.0) -> bytes:
        return await self._go((body, False), timeout_s)

    async def _go(self, write: tuple[bytes, bool] | None, timeout_s: float) -> bytes:
        self.asked += 1
        if self.cut:
            raise ApiError("request", 0, REASON_UNREACHABLE)
        # Who gives up does not call back what was sent: it may still arrive.
        arriving = asyncio.ensure_future(self._arrive(write))
        self.late.add(arriving)
        arriving.add_done_callback(self._arrived)
        try:
            return await asyncio.wait_for(asyncio.shield(arriving), timeout_s)
        except TimeoutError:
            raise ApiError("request", 0, REASON_TIMEOUT) from None

    def _arrived(self, task: asyncio.Task[bytes]) -> None:
        self.late.discard(task)
        if not task.cancelled():
            task.exception()

    async def _arrive(self, write: tuple[bytes, bool] | None) -> bytes:
        await asyncio.sleep(self.chance.random() * self.slowest_s)
        answer = self.store.read() if write is None else self.store.write(write[0], create=write[1])
        await asyncio.sleep(self.late_s + self.chance.random() * self.slowest_s)
        return answer


class Candidate:
    """One process: its election, and whether its work as a leader is under way."""

    def __init__(
        self, store: Store, identity: str, *, seed: int = 0, slowest_s: float = 0.0, rate: float = 1.0
    ) -> None:
        loop = asyncio.get_running_loop()
        self.way = Way(store, random.Random(seed), slowest_s)
        self.election = LeaderElection(self.way, "ns", "lease", identity, clock=lambda: loop.time() * rate)
        self.working = False
        self.began = asyncio.Event()
        self._running = asyncio.ensure_future(self.election.run(self._work))

    async def _work(self) -> None:
        self.working = True
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def stop(self) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running
        for late in list(self.way.late):
            late.cancel()
