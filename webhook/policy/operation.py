"""One operation of a JSON Patch, and where it points to. Types only, no I/O here."""

from __future__ import annotations

from typing import Any

import msgspec


class Operation(msgspec.Struct, frozen=True, gc=False, tag_field="op", tag="add"):
    """One operation; only adding is needed, which replaces where a member is there already."""

    path: str
    value: Any


def pointer(*parts: str | int) -> str:
    """A JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
