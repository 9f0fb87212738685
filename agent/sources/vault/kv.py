"""KV version 2, as its metadata and its data tell which version is current. Pure.

The metadata name the current version, when it was made, and whether it is deleted or destroyed: enough to see that
nothing is new without reading a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.sources.vault.errors import Kind, VaultError


@dataclass(frozen=True, slots=True)
class Stamp:
    """One version of one secret. `created` tells version 1 from the version 1 of a secret deleted and made anew."""

    version: int
    created: str

    @property
    def label(self) -> str:
        """For people."""
        return f"version {self.version}"


class Version(msgspec.Struct, frozen=True):
    """As Vault's metadata tell it; `deletion_time` may be in the future."""

    created_time: str = ""
    deletion_time: str = ""
    destroyed: bool = False
    version: int = 0


class Metadata(msgspec.Struct, frozen=True):
    """What `metadata/` answers."""

    current_version: int
    versions: dict[str, Version] = {}


class Data(msgspec.Struct, frozen=True):
    """What `data/` answers; the metadata of a deleted version come without data."""

    metadata: Version
    data: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "Data(...)"


def path_on(mount: str, path: str, name: str) -> str:
    """The path below `mount/data/` of an API path on a KV v2 mount (`mount` without a slash at its end).

    Raises VaultError (BAD_REQUEST) with the right path where it does not lie below `data/`.
    """
    below = path.removeprefix(f"{mount}/")
    kind, _, secret = below.partition("/")
    if kind == "data" and secret:
        return secret
    wanted = secret if kind in ("metadata", "subkeys", "delete", "undelete", "destroy") and secret else below
    why = f"{mount}/ is a KV v2 mount, whose secrets are read below {mount}/data/"
    raise VaultError(Kind.BAD_REQUEST, name, why, f"write `path: {mount}/data/{wanted}`")


def stamp_of_metadata(name: str, found: Metadata, pinned: int, now: datetime) -> Stamp:
    """Which version is to be served, by an answer of `metadata/`. `pinned` is 0 for the newest.

    Raises VaultError: NOT_FOUND for one that is not there, deleted or destroyed, BAD_ANSWER for an answer that is none.
    """
    number = pinned or found.current_version
    version = found.versions.get(str(number))
    if version is None and pinned:
        fix = f"pin a version that is kept, or none; the newest is {found.current_version}"
        raise VaultError(Kind.NOT_FOUND, name, f"version {pinned} is not there", fix)
    if version is None:
        raise VaultError(Kind.NOT_FOUND, name, "the secret has no version", "write one")
    return _stamp(name, version, number, now)


def stamp_of_data(name: str, found: Data, now: datetime) -> Stamp:
    """The version of an answer of `data/`. Raises VaultError as `stamp_of_metadata`."""
    return _stamp(name, found.metadata, found.metadata.version, now)


def _stamp(name: str, version: Version, number: int, now: datetime) -> Stamp:
    if version.destroyed:
        fix = "write a new version; what is destroyed does not come back"
        raise VaultError(Kind.NOT_FOUND, name, f"version {number} is destroyed", fix)
    if version.deletion_time and _time(name, version.deletion_time) <= now:
        fix = "undelete it (`vault kv undelete`), or write a new version"
        raise VaultError(Kind.NOT_FOUND, name, f"version {number} is deleted", fix)
    return Stamp(number, version.created_time)


def _time(name: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        why = "the answer has a time that is none"
        raise VaultError(Kind.BAD_ANSWER, name, why, "look whether the address leads to Vault") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
