"""Secrets that are there already and are looked at from time to time: KV of both versions, and whatever else is read
without anything being made by it.

`look` gives what was not there at the last look, None where nothing is new; a KV v2 secret is then not read at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from agent.sources.vault.answers import Answer
from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.flatten import Fit, essence
from agent.sources.vault.kv import Data, Metadata, Stamp, path_on, stamp_of_data, stamp_of_metadata
from agent.sources.vault.news import Asked, Labels, News
from agent.vault_ref import Identity

METADATA_AGAIN_S = 60.0
"""How often metadata that the policy forbids are asked for again: policies get mended."""


class ReadDoor(Protocol):
    """What is asked of Vault here: `agent.sources.vault.client.VaultClient`."""

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = ...,
        query: Mapping[str, str] = ...,
        once: bool = ...,
    ) -> Answer: ...


class Reader(Protocol):
    """One way to read one secret."""

    async def look(self, good: Mapping[str, bytes]) -> News | None:
        """What is new, where `good` is what is shown. Raises Refused."""

    def how(self, pace_s: float) -> str:
        """For people: how changes are noticed."""


class KvReader:
    """KV v2: the metadata say whether there is a new version. `mount` ends with a slash.

    Raises VaultError (BAD_REQUEST) for a path that is not below `data/`.
    """

    def __init__(self, asked: Asked, door: ReadDoor, mount: str, clock: Callable[[], float]) -> None:
        self._asked, self._door, self._clock = asked, door, clock
        mount = mount.rstrip("/")
        self._metadata = f"{mount}/metadata/{path_on(mount, asked.path, asked.name)}"
        version = asked.request.source.version
        self._pinned = version
        self._query = {"version": str(version)} if version else {}
        self._fit = Fit(asked.name)
        self._stamp: Stamp | None = None
        self._denied_s: float | None = None

    async def look(self, good: Mapping[str, bytes]) -> News | None:
        """Reads the value only where there is another version, or the policy forbids the metadata."""
        stamp = await self._current()
        if stamp is not None and stamp == self._stamp:
            self._fit.same()
            return None
        data = await self._read()
        stamp = stamp_of_data(self._asked.name, data, self._now())
        if stamp == self._stamp:
            self._fit.same()
            return None
        self._stamp = stamp
        return News(self._fit.another(good, data.data or {}), stamp.label)

    def how(self, pace_s: float) -> str:
        """As `Reader.how`."""
        pinned = f", pinned to version {self._pinned}" if self._pinned else ""
        if self._denied_s is not None:
            return f"value every {pace_s:g}s: the policy forbids {self._metadata}{pinned}"
        return f"metadata every {pace_s:g}s{pinned}"

    async def _current(self) -> Stamp | None:
        if self._denied_s is not None and self._clock() < self._denied_s + METADATA_AGAIN_S:
            return None
        try:
            answer = await self._door.read(self._asked.identity, self._metadata)
        except VaultError as error:
            if error.kind is not Kind.DENIED:
                raise
            self._denied_s = self._clock()
            return None
        self._denied_s = None
        return stamp_of_metadata(self._asked.name, answer.data_as(Metadata), self._pinned, self._now())

    async def _read(self) -> Data:
        try:
            answer = await self._door.read(self._asked.identity, self._asked.path, query=self._query)
        except VaultError as error:
            if error.kind is Kind.NOT_FOUND and error.answer is not None and error.answer.raw:
                stamp_of_data(self._asked.name, error.answer.data_as(Data), self._now())  # says why, if it is deleted
            raise
        return answer.data_as(Data)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


class PlainReader:
    """Anything else that can be read: read, and compared. `first` is an answer that was read already.

    `counts_down` says that the engine may have a `ttl` in its answers that goes down by itself.
    """

    def __init__(
        self, asked: Asked, door: ReadDoor, labels: Labels, *, counts_down: bool, first: Answer | None = None
    ) -> None:
        self._asked, self._door, self._labels, self._counts_down = asked, door, labels, counts_down
        self._first = first
        self._fit = Fit(asked.name)
        self._seen = b""
        self._essence: Mapping[str, bytes] | None = None
        self.made: Answer | None = None
        """An answer with a lease: this is no such secret, and the answer's credentials are somebody's to keep."""

    async def look(self, good: Mapping[str, bytes]) -> News | None:
        """Reads the value."""
        answer, self._first = self._first, None
        if answer is None:
            answer = await self._door.read(self._asked.identity, self._asked.path)
        if answer.lease_id:
            self.made = answer
            return None
        seen = hashlib.blake2b(answer.raw).digest()
        if seen == self._seen:
            self._fit.same()
            return None
        data = answer.data
        self._seen = seen
        values = self._fit.another(good, data)
        compared = essence(values) if self._counts_down else values
        if compared == self._essence:
            return None
        self._essence = compared
        return News(values, self._labels.of_values("content", compared))

    def how(self, pace_s: float) -> str:
        """As `Reader.how`."""
        return f"value every {pace_s:g}s"
