"""What list and watch send, as far as every kind has it in common. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

MAX_LINE = 16 << 20
"""Bytes of one event of a watch. An object has at most 3 MB."""


class Unreadable(Exception):
    """Not what an API server sends. Holds nothing of it."""


class Meta(msgspec.Struct, rename="camel", frozen=True):
    """Who an object is."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: Meta


class Event(msgspec.Struct, frozen=True):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: msgspec.Raw


class _ListMeta(msgspec.Struct, rename="camel", frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct, frozen=True):
    """One page of a list. `items` are views into the answer."""

    metadata: _ListMeta
    items: tuple[msgspec.Raw, ...] | None = None


_pages = msgspec.json.Decoder(Page)
_events = msgspec.json.Decoder(Event)
_objects = msgspec.json.Decoder(_Object)
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_page(body: bytes) -> Page:
    """A page. Raises Unreadable."""
    try:
        return _pages.decode(body)
    except _FAULTS:
        raise Unreadable("page") from None


def read_event(line: bytes) -> Event:
    """A line of a watch. Raises Unreadable."""
    try:
        return _events.decode(line)
    except _FAULTS:
        raise Unreadable("event") from None


def read_meta(raw: msgspec.Raw) -> Meta:
    """Who an object is. Raises Unreadable."""
    try:
        return _objects.decode(raw).metadata
    except _FAULTS:
        raise Unreadable("object") from None


def identity(meta: Meta) -> str:
    """`namespace/name`, or `name` where the kind has no namespaces."""
    return f"{meta.namespace}/{meta.name}" if meta.namespace else meta.name


class Lines:
    """Cuts chunks into lines, each of at most `longest` bytes."""

    def __init__(self, longest: int = MAX_LINE) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that the chunk completes, without empty ones. Raises Unreadable for one that is too long."""
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            self._keep(chunk[begin:end])
            line = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            begin = end + 1
            if line.strip():
                yield line
        if begin < len(chunk):
            self._keep(chunk[begin:])

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._longest:
            raise Unreadable("line")
        self._parts.append(part)
