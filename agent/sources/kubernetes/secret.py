"""What the API server sends of a Secret: its values, and the notice that it has changed. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from agent.sources.keys import MAX_BYTES, MAX_KEYS
from agent.sources.kubernetes.place import Kind, Place, SecretError
from apiclient.objects import Unreadable, read_event, read_meta
from kernelsecret.errors import Code
from kernelsecret.problems import shown

MAX_ANSWER = 4 << 20
"""Bytes of a Secret in JSON: 1 MiB of data, which base64 makes longer by a third, and what annotations may take."""
MAX_NOTICE = 2 << 20
"""Bytes of one notice: the metadata of a Secret, which its annotations can fill with 256 KiB and more."""

_RANDOM = os.urandom(32)


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    resource_version: str = ""


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Meta
    kind: str = ""
    data: dict[str, bytes] | None = None
    """msgspec takes bytes for base64, which is what they are."""

    def __repr__(self) -> str:
        return "_Secret(...)"


_secrets = msgspec.json.Decoder(_Secret)


@dataclass(frozen=True, slots=True)
class Read:
    """A Secret as it was at one moment. `version` is the API server's own name of it."""

    version: str
    values: Mapping[str, bytes] = field(repr=False)


def read_secret(place: Place, answer: bytes) -> Read:
    """The Secret in an answer. Raises SecretError, which holds nothing of it but names of keys."""
    try:
        found = _secrets.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None or found.kind != "Secret" or not found.metadata.resource_version:
        why = "the API server's answer is not a Secret"
        raise SecretError(Kind.BAD_ANSWER, Code.UNAVAILABLE, str(place.ref), why)
    values = found.data or {}
    if not values:
        raise place.unusable("the Secret has no keys", "put data into it")
    if len(values) > MAX_KEYS:
        raise place.unusable(f"the Secret has more than {MAX_KEYS} keys", "split it into several")
    for name, value in sorted(values.items()):
        if len(value) > MAX_BYTES:
            raise place.unusable(f"the key {shown(name)} has more than {MAX_BYTES} bytes", "store less")
    return Read(found.metadata.resource_version, values)


class Fingerprints:
    """What tells values apart without keeping them: digests that mean nothing outside of this process."""

    __slots__ = ("_digests",)

    def __init__(self, values: Mapping[str, bytes] | None = None) -> None:
        self._digests = {name: _digest(value) for name, value in (values or {}).items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprints) and self._digests == other._digests

    __hash__ = None  # type: ignore[assignment]

    def emptied(self, values: Mapping[str, bytes]) -> str | None:
        """A key that is empty in `values` and was not here."""
        empty = _digest(b"")
        gone = [name for name, value in values.items() if not value and self._digests.get(name, empty) != empty]
        return min(gone, default=None)


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16, key=_RANDOM).digest()


@dataclass(frozen=True, slots=True)
class Notice:
    """One line of a watch. `version` is "" where the Secret is gone."""

    version: str
    is_news: bool
    """Tells of the Secret, and not only of how far the watch is."""


class WatchEnded(Exception):
    """The watch cannot go on; it is opened again. Holds nothing of what was sent."""


def read_notice(line: bytes) -> Notice:
    """What a line of the watch says. Raises WatchEnded for an error, and for what is no event."""
    try:
        event = read_event(line)
        if event.type == "ERROR":
            raise WatchEnded("error")
        meta = read_meta(event.object)
    except Unreadable:
        raise WatchEnded("unreadable") from None
    if event.type == "DELETED":
        return Notice("", is_news=True)
    if event.type not in ("ADDED", "MODIFIED", "BOOKMARK"):
        raise WatchEnded("unknown event")
    return Notice(meta.resource_version, is_news=event.type != "BOOKMARK")
