"""Elects one leader among replicas by a Lease: at most one believes that it leads, at any moment.

The holder believes only until `renew_s` after it *sent* the last renewal that succeeded. The others take over `lease_s`
after they *saw* the lease change, which is later than it was sent, and longer. So clocks need not agree, they must only
run equally fast (within renew_s / lease_s). What a leader has on its way when it stops believing may still arrive: it
writes with a resource version.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.errors import REASON_UNREADABLE, ApiError
from apiclient.lease import Lease, LeaseMeta, Sightings, released, taken
from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

log = get_logger("apiclient")
_SHORTEST_S = 0.05


def boot_time() -> float:
    """Seconds since boot, those in which the machine slept too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class LeaderElection:
    """`identity` is one process's own: a pod's name alone is shared by its restarts."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_s: int = 15,
        renew_s: float = 10.0,
        retry_s: float = 2.0,
        clock: Callable[[], float] = boot_time,
        wall_clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        if not 0 < retry_s < renew_s < lease_s:
            raise ValueError("retry_s < renew_s < lease_s")
        self._client = client
        self._path = paths.lease(namespace, name)
        self._collection = paths.leases(namespace)
        self._new = LeaseMeta(name=name, namespace=namespace)
        self._name = name
        self.identity = identity
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._retry_s = retry_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._sightings = Sightings()
        self._held: Lease | None = None
        self._until = float("-inf")
        self.holder = ""
        """Who held the lease when it was last read."""

    @property
    def is_leader(self) -> bool:
        """Whether we lead now. Ask again before every write: it ends by itself."""
        return self._clock() < self._until

    async def run(self, on_started: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: wait for the lease, lead, wait again. `on_started` is cancelled when the lease is lost.

        When it returns or raises while we lead, the lease is given back and we stand again. Cancelled, it is given back
        once `on_started` has ended.
        """
        while True:
            if await self._try():
                log.info(Event.LEADING, lease=self._name, identity=self.identity)
                await self._lead(on_started)
            await asyncio.sleep(self._pause_s())

    async def _lead(self, on_started: Callable[[], Awaitable[None]]) -> None:
        work = asyncio.ensure_future(on_started())
        try:
            await self._renew_while(work)
        finally:
            await self._end(work)
            log.info(Event.LEADING_ENDED, lease=self._name, identity=self.identity)
            if self.is_leader:
                await self._release()

    async def _renew_while(self, work: asyncio.Future[None]) -> None:
        """Returns when the work has ended or the lease is lost."""
        while self.is_leader:
            # Never shorter: by a clock that runs behind the loop's we would ask ever more often towards the end.
            left_s = max(_SHORTEST_S, self._until - self._clock())
            pause = asyncio.ensure_future(asyncio.sleep(min(self._pause_s(), left_s)))
            try:
                await asyncio.wait({work, pause}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pause.cancel()
            if work.done() or self._clock() >= self._until:
                return  # once lost it is not taken again under the same work: another may have led in between
            await self._try()

    async def _end(self, work: asyncio.Future[None]) -> None:
        work.cancel()
        try:
            await work
        except asyncio.CancelledError:
            if not work.cancelled():  # it is we who are being cancelled once more
                raise
        except Exception as error:  # noqa: BLE001 - whatever ended the work, others must be able to lead
            log.error(Event.CALLBACK_FAILED, lease=self._name, **problem(error))

    async def _try(self) -> bool:
        """Take or renew the lease; whether we lead now."""
        sent = self._clock()
        # A renewal that hangs must not keep us from stopping in time.
        timeout_s = min(5.0, max(0.1, self._until - sent)) if self.is_leader else 5.0
        try:
            held = await self._write(timeout_s)
        except Refused as error:
            self._held = None
            if not (isinstance(error, ApiError) and error.status == 409):
                log.warning(Event.LEASE_FAILED, lease=self._name, **problem(error))
            return self.is_leader
        self._held = held
        # Nothing to renew any more: another has it, or we gave up; what we believed ends at once.
        self._until = sent + self._renew_s if held is not None else float("-inf")
        return self.is_leader

    async def _write(self, timeout_s: float) -> Lease | None:
        """The lease as we wrote it, None where another holds it. Raises ApiError."""
        found = self._held
        if found is None:
            found = await self._read(timeout_s)
            self.holder = found.spec.holder_identity or ""
            ours = self.holder == self.identity
            if not ours and not self._sightings.free(found, self._clock(), self._lease_s):
                return None
        body = msgspec.json.encode(taken(found, self.identity, self._lease_s, self._wall_clock()))
        if found.metadata.resource_version:
            answer = await self._client.replace(self._path, body, timeout_s=timeout_s)
        else:
            answer = await self._client.create(self._collection, body, timeout_s=timeout_s)
        self.holder = self.identity
        return self._decode(answer)

    async def _read(self, timeout_s: float) -> Lease:
        """The lease as stored, an empty one where there is none."""
        try:
            return self._decode(await self._client.get(self._path, timeout_s=timeout_s))
        except ApiError as error:
            if error.code is not Code.NOT_FOUND:
                raise
            return Lease(metadata=self._new)

    def _decode(self, answer: bytes) -> Lease:
        try:
            return msgspec.json.decode(answer, type=Lease)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ApiError(f"GET {self._path}", 0, REASON_UNREADABLE) from None

    async def _release(self) -> None:
        held, self._held, self._until = self._held, None, float("-inf")
        if held is None:
            return
        body = msgspec.json.encode(released(held, self._wall_clock()))
        with suppress(Refused):  # it runs out by itself
            await self._client.replace(self._path, body, timeout_s=2.0)

    def _pause_s(self) -> float:
        return self._retry_s * (1 + random.random() / 5)  # noqa: S311 - so that replicas do not ask together
