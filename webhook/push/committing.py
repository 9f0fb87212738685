"""Accepted pushes on their way into the ConfigMap of notices: all that wait go in one write, and each sender is
answered once what it said is written.

A secret is written at once, and then again after `EVERY_S` at the earliest: what comes meanwhile is one write at the
end of that time, so the last push is never lost. Every write carries the resource version of what it was decided by;
where another replica was faster everything is judged again, so that a push is taken by one replica only.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

import msgspec

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.errors import ApiError
from kernelsecret.errors import Code, Refused
from kernelsecret.names import NOTICES_OBJECT
from kernelsecret.push import HEADER_TIME, PushedSecret
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.push.board import Stored, Times, Told, body_of, emptied, first, merged, read_stored
from webhook.push.outcomes import Outcome, PushRefused

EVERY_S: Final = 0.1
"""Between two writes that tell of one secret."""
LEAST_S: Final = 0.01
BYTES_PER_S: Final = 256 * 1024
"""Each write is sent to every agent: so much a second goes to one of them at most."""
MOST_WAITING: Final = 768
"""Each is a connection: the port has 1,024 before it ends idle ones, and reviews come by it too."""
MOST_WAITING_OF_ONE: Final = 512
"""Of one sender: what is left is for the others."""
MOST_AT_ONCE: Final = 256
"""Secrets of one write, so that none is pushed off the board before agents have seen it."""
ATTEMPTS: Final = 12
TIMEOUT_S: Final = 3.0

log = get_logger("push")


class _Waiting(NamedTuple):
    told: Told
    written: asyncio.Future[None]


class Key(NamedTuple):
    """Pushes that are written together: the same secrets, told by one sender."""

    sender: str
    secrets: tuple[PushedSecret, ...]


class Committer:
    """`run` as a task; `commit` for each push. `on_write` hears of every write's end: ok, conflict or failed."""

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        *,
        on_write: Callable[[str], None] = lambda result: None,
        now_ns: Callable[[], int] = time.time_ns,
        every_s: float = EVERY_S,
    ) -> None:
        self._client, self._namespace = client, namespace
        self._on_write, self._now_ns, self._every_s = on_write, now_ns, every_s
        self._path = paths.config_map(namespace, NOTICES_OBJECT)
        self._groups: dict[Key, list[_Waiting]] = {}
        self._waiting_of: Counter[str] = Counter()
        self._not_before: dict[PushedSecret, float] = {}
        self._free_at = 0.0
        self._news = asyncio.Event()
        self._stored: Stored | None = None
        self.waiting = 0
        """Pushes that are not answered yet."""

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            while self._groups:
                now = loop.time()
                due = [key for key in self._groups if self._due_at(key) <= now]
                if due:
                    await self._write_all(self._taken(in_turn(due)))
                    continue
                wait = min(map(self._due_at, self._groups)) - now
                try:
                    async with asyncio.timeout(wait):
                        await self._news.wait()
                    self._news.clear()
                except TimeoutError:
                    pass

    async def commit(self, told: Told) -> None:
        """Returns once it is written. Raises PushRefused: REPLAYED where something as new was accepted before, LIMITED
        where too many wait, UNAVAILABLE where it cannot be written now.
        """
        key, sender = Key(told.sender, told.secrets), told.sender
        is_sender = self._waiting_of[sender] >= MOST_WAITING_OF_ONE
        if is_sender or self.waiting >= MOST_WAITING:
            what = f"{sender} pushes" if is_sender else "secrets are pushed"
            why = f"{what} faster than can be written down"
            raise PushRefused(Outcome.LIMITED, "secrets", why, "push again after a second", wait_s=1.0)
        waiting = _Waiting(told, asyncio.get_running_loop().create_future())
        if key not in self._groups:
            self._groups[key] = []
            self._news.set()
        self._groups[key].append(waiting)
        self.waiting += 1
        self._waiting_of[sender] += 1
        try:
            await waiting.written
        finally:
            self.waiting -= 1
            self._waiting_of[sender] -= 1
            if not self._waiting_of[sender]:
                del self._waiting_of[sender]

    def _due_at(self, key: Key) -> float:
        return max(self._free_at, *(self._not_before.get(one, 0.0) for one in key.secrets))

    def _taken(self, due: Iterable[Key]) -> list[_Waiting]:
        """The pushes that are written now, oldest first."""
        batch: list[_Waiting] = []
        named: set[PushedSecret] = set()
        for key in due:
            if batch and len(named.union(key.secrets)) > MOST_AT_ONCE:
                break
            named.update(key.secrets)
            batch += self._groups.pop(key)
        now = asyncio.get_running_loop().time()
        self._not_before = {one: at for one, at in self._not_before.items() if at > now}
        self._not_before |= dict.fromkeys(named, now + self._every_s)
        return sorted((one for one in batch if not one.written.done()), key=lambda one: one.told.time_ns)

    async def _write_all(self, batch: list[_Waiting]) -> None:
        """Write them, and answer each; nothing is left unanswered."""
        try:
            for attempt in range(ATTEMPTS):
                batch = await self._judged(batch)
                if not batch or await self._written(batch):
                    return
                # Another replica writes too: not in step with it.
                await asyncio.sleep(random.random() * 0.005 * (attempt + 1))  # noqa: S311
            raise Refused(Code.UNAVAILABLE, "webhook", "other replicas were faster again and again")
        except Refused as refused:
            self._stored = None  # whether it was written is not known where no answer came
            self._on_write("failed")
            log.warning(Event.PUSH_FAILED, object=self._path, count=len(batch), **problem(refused))
            why = "the notice could not be written: the API server does not take it now"
            _refuse(batch, lambda: PushRefused(Outcome.UNAVAILABLE, "webhook", why, "push again", wait_s=1.0))
        except Exception as failure:  # noqa: BLE001 - whoever waits gets an answer, and the next ones are written
            self._stored = None
            log.error(Event.PUSH_FAILED, object=self._path, count=len(batch), **problem(failure))
            why = f"internal error ({type(failure).__name__})"
            _refuse(batch, lambda: PushRefused(Outcome.FAILED, "webhook", why, "see the webhook's log"))

    async def _judged(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Those that are newer than what is written; the others are refused."""
        if self._stored is None:
            self._stored = await self._read()
        times = Times(self._stored.board)
        left = []
        for one in batch:
            found = times.stale(one.told)
            if found is None:
                left.append(one)
            else:
                _refuse([one], partial(_replayed, found))
        return left

    async def _written(self, batch: list[_Waiting]) -> bool:
        """Whether it could be written: not where somebody else has. Raises Refused."""
        assert self._stored is not None
        board = merged(self._stored.board, (one.told for one in batch), self._now_ns())
        wanted = self._stored._replace(board=board)
        body = body_of(wanted)
        pause = max(LEAST_S, len(body) / BYTES_PER_S)
        self._free_at = asyncio.get_running_loop().time() + pause
        try:
            if wanted.is_new:
                answer = await self._client.create(paths.config_maps(self._namespace), body, timeout_s=TIMEOUT_S)
            else:
                answer = await self._client.replace(self._path, body, timeout_s=TIMEOUT_S)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            self._stored = None
            self._on_write("conflict")
            return False
        self._stored = self._parsed(answer)
        self._on_write("ok")
        for one in batch:
            if not one.written.done():
                one.written.set_result(None)
        return True

    async def _read(self) -> Stored:
        try:
            return self._parsed(await self._client.get(self._path, timeout_s=TIMEOUT_S))
        except ApiError as error:
            if error.status == 404:
                return first(self._namespace)
            raise

    def _parsed(self, raw: bytes) -> Stored:
        try:
            found = read_stored(raw)
            if found is None:
                why = "somebody else wrote it; it begins anew"
                log.warning(Event.NOTICES_UNREADABLE, object=NOTICES_OBJECT, why=why)
                found = emptied(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            why = "the API server's answer is no ConfigMap"
            raise Refused(Code.UNAVAILABLE, f"ConfigMap {NOTICES_OBJECT}", why) from None
        return found


def in_turn(keys: Iterable[Key]) -> list[Key]:
    """One of each sender, then the next of each: whoever pushes a lot waits behind itself."""
    before: Counter[str] = Counter()
    places = []
    for key in keys:
        places.append((before[key.sender], key))
        before[key.sender] += 1
    return [key for _, key in sorted(places, key=lambda place: place[0])]


def _replayed(secret: PushedSecret) -> PushRefused:
    why = f"this push was accepted before, or is older than others of {secret} by this sender that were"
    fix = "sign each push anew, by a clock that does not go back; one clock for all who push under one name"
    return PushRefused(Outcome.REPLAYED, HEADER_TIME, why, fix)


def _refuse(batch: Iterable[_Waiting], refused: Callable[[], PushRefused]) -> None:
    for one in batch:
        if not one.written.done():
            one.written.set_exception(refused())
