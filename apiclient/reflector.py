"""Keeps a collection of the API server in memory: list, then watch, for as long as it runs.

What is held is what the server had at one moment, perhaps a little ago, and it always comes to be what the server has:
every way in which a watch can end leads either to a watch from where it stopped or to a new list that is compared with
what is held.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from apiclient.backoff import Backoff
from apiclient.client import NO_QUERY, ApiClient
from apiclient.errors import GONE, REASON_TOO_LARGE, REASON_UNREADABLE, ApiError, Status
from apiclient.objects import Lines, Unreadable, identity, read_event, read_meta, read_page
from kernelsecret.errors import Refused
from telemetry import logkeys
from telemetry.logs import get_logger, problem

T = TypeVar("T")
PAGE = 500
"""Objects of one page of a list; halved while the pages are too large."""
FRESH_S = 30.0
"""How long what is held counts as current after the watch broke."""
STUCK = 3
"""Attempts to go on from one resource version that brought nothing, before everything is listed again."""

log = get_logger("apiclient")


class _ListAgain(Exception):
    """The watch cannot go on from where it stopped."""


class Reflector(Generic[T]):
    """`items` by key. `decode` makes of one object's JSON what is to be kept (nothing else is), None to leave it out.

    `key(T)` is unique in the collection. An object that `decode` raises for is logged, counted in `unreadable` and
    treated as absent. `on_change(key, old, new)` is called in the loop, in order, after `items` changed, with None for
    what is not there; not where `old == new`. What it raises is logged and changes nothing.
    `selectors` are query parameters: `fieldSelector`, `labelSelector`.
    """

    def __init__(
        self,
        client: ApiClient,
        path: str,
        decode: Callable[[bytes], T | None],
        *,
        key: Callable[[T], str],
        selectors: Mapping[str, str] = NO_QUERY,
        on_change: Callable[[str, T | None, T | None], None] | None = None,
        name: str = "",
        page: int = PAGE,
        watch_s: float = 300.0,
        silence_s: float = 90.0,
        timeout_s: float = 30.0,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name or path.rpartition("/")[2]
        self.resource_version = ""
        """Where the watch goes on; "" before the first list and when a new one is needed."""
        self.unreadable = 0
        self.relists = 0
        """Lists that were completed."""
        self._client = client
        self._path = path
        self._decode = decode
        self._key = key
        self._selectors = dict(selectors)
        self._on_change = on_change
        self._page = page
        self._watch_s = watch_s
        self._silence_s = silence_s
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._items: dict[str, T] = {}
        self._other_keys: dict[str, str] = {}  # identity -> key, only where they differ
        self._synced = asyncio.Event()
        self._watching = False
        self._heard_at = 0.0
        self._futile = 0
        self.items: Mapping[str, T] = MappingProxyType(self._items)

    @property
    def synced(self) -> bool:
        """The first list is done."""
        return self._synced.is_set()

    @property
    def is_current(self) -> bool:
        """The watch is open, or was until just now."""
        return self.synced and (self._watching or self._clock() - self._heard_at < FRESH_S)

    async def wait_synced(self, timeout_s: float) -> bool:
        """Whether the first list is done, after waiting for it so long at most."""
        try:
            await asyncio.wait_for(self._synced.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            asked_s: float | None = None
            try:
                if not self.resource_version:
                    await self._list()
                began = self._clock()
                await self._watch()
                if self._clock() - began >= 1.0:
                    self._progress()  # it had its time: the server ends every watch
                    continue
            except _ListAgain:
                self.resource_version = ""
            except Unreadable:
                self._failed(ApiError(f"GET {self._path}", 0, REASON_UNREADABLE))
            except Refused as error:
                asked_s = error.retry_after_s if isinstance(error, ApiError) else None
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - whoever relies on `items` must not be left with old ones
                self._failed(error)
            await asyncio.sleep(self._backoff.next_s(asked_s))

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ApiError) and error.is_gone:
            self.resource_version = ""
            return
        self._futile += 1
        if self._futile >= STUCK:
            self._futile = 0
            self.resource_version = ""
        log.warning(
            logkeys.Event.WATCH_FAILED, collection=self.name, attempt=self._backoff.attempt + 1, **problem(error)
        )

    def _progress(self) -> None:
        self._heard_at = self._clock()
        self._futile = 0
        self._backoff.reset()

    async def _list(self) -> None:
        found: dict[str, tuple[str, T]] = {}
        page, onward = self._page, ""
        while True:
            query = self._selectors | {"limit": str(page)} | ({"continue": onward} if onward else {})
            try:
                answer = read_page(await self._client.get(self._path, query=query, timeout_s=self._timeout_s))
            except ApiError as error:
                if error.reason != REASON_TOO_LARGE or page == 1:
                    raise
                page = max(1, page // 2)
                continue
            for raw in answer.items or ():
                who = identity(read_meta(raw))
                if kept := self._kept(who, raw):
                    found[who] = kept
            onward = answer.metadata.continue_
            if not onward:
                break
        if not answer.metadata.resource_version:
            raise Unreadable("list")
        self._replace(found)
        self.resource_version = answer.metadata.resource_version
        self.relists += 1
        self._heard_at = self._clock()
        self._futile = 0
        if not self._synced.is_set():
            log.info(logkeys.Event.WATCH_SYNCED, collection=self.name, count=len(self._items))
            self._synced.set()

    def _replace(self, found: Mapping[str, tuple[str, T]]) -> None:
        present = {key for key, _ in found.values()}
        self._other_keys = {who: key for who, (key, _) in found.items() if who != key}
        for key in [key for key in self._items if key not in present]:
            self._set(key, None)
        for key, value in found.values():
            self._set(key, value)

    async def _watch(self) -> None:
        seconds = self._watch_s * (1 + random.random())  # noqa: S311 - so that replicas do not come back together
        query = self._selectors | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self.resource_version,
            "timeoutSeconds": str(int(seconds)),
        }
        lines = Lines()
        try:
            async with self._client.stream(self._path, query, silence_s=self._silence_s) as chunks:
                self._watching = True
                async for chunk in chunks:
                    for line in lines.feed(chunk):
                        self._event(line)
        finally:
            if self._watching:
                self._watching = False
                self._heard_at = self._clock()

    def _event(self, line: bytes) -> None:
        event = read_event(line)
        if event.type == "ERROR":
            self._refused(event.object)
        meta = read_meta(event.object)
        if event.type in ("ADDED", "MODIFIED"):
            self._put(identity(meta), event.object)
        elif event.type == "DELETED":
            self._drop(identity(meta))
        elif event.type != "BOOKMARK":
            raise Unreadable("event")
        if not meta.resource_version:
            raise Unreadable("event")
        self.resource_version = meta.resource_version
        self._progress()

    def _refused(self, raw: msgspec.Raw) -> None:
        try:
            status = msgspec.json.decode(raw, type=Status)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            status = Status()
        if status.code == 429:
            raise ApiError(f"WATCH {self._path}", status.code, status.reason)
        if status.code != GONE:
            # An event that the server could not make: going on from here would leave it out.
            self._failed(ApiError(f"WATCH {self._path}", status.code or 500, status.reason))
        raise _ListAgain

    def _kept(self, who: str, raw: msgspec.Raw) -> tuple[str, T] | None:
        """Key and value of an object, None where it is left out."""
        try:
            value = self._decode(bytes(raw))
            return None if value is None else (self._key(value), value)
        except Exception as error:  # noqa: BLE001 - one object that nobody can read must not stop the others
            self.unreadable += 1
            log.warning(logkeys.Event.OBJECT_UNREADABLE, collection=self.name, object=who, **problem(error))
            return None

    def _put(self, who: str, raw: msgspec.Raw) -> None:
        kept = self._kept(who, raw)
        if kept is None:
            self._drop(who)
            return
        key, value = kept
        before = self._other_keys.pop(who, who)
        if before != key:
            self._set(before, None)
        if who != key:
            self._other_keys[who] = key
        self._set(key, value)

    def _drop(self, who: str) -> None:
        self._set(self._other_keys.pop(who, who), None)

    def _set(self, key: str, new: T | None) -> None:
        old = self._items.get(key)
        if old is new or old == new:
            return
        if new is None:
            del self._items[key]
        else:
            self._items[key] = new
        if self._on_change is None:
            return
        try:
            self._on_change(key, old, new)
        except Exception as error:  # noqa: BLE001 - what others make of a change must not stop the changes
            log.error(logkeys.Event.CALLBACK_FAILED, collection=self.name, object=key, **problem(error))
