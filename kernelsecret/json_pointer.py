"""JSON pointers (RFC 6901) into a value. Pure; errors name the pointer and never a value.

Numbers keep the digits that they were written with, because only what lies on the way is read.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kernelsecret.filters import ShapeError, Work, fitting, read_json, shown_json
from kernelsecret.plain import is_printable
from kernelsecret.problems import quoted

MAX_POINTER: Final = 512
"""Bytes of a pointer."""
MAX_STEPS: Final = 32
_SYNTAX: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def pointer_problem(pointer: str) -> str | None:
    """Why a text is not a pointer that can be followed, None if it is. Empty is the whole value."""
    if pointer and not pointer.startswith("/"):
        return f"{quoted(pointer)} does not begin with '/'"
    if not _SYNTAX.fullmatch(pointer):
        return f"{quoted(pointer)} has a '~' that is neither ~0 (for '~') nor ~1 (for '/')"
    if not is_printable(pointer):
        return f"{quoted(pointer)} has a control character"
    if len(pointer.encode()) > MAX_POINTER:
        return f"has more than {MAX_POINTER} bytes"
    if pointer.count("/") > MAX_STEPS:
        return f"has more than {MAX_STEPS} steps"
    return None


def steps_of(pointer: str) -> list[str]:
    """The names that a good pointer goes through, without its escapes."""
    return [_unescaped(part) for part in pointer.split("/")[1:]]


def index_of(step: str) -> int | None:
    """The item of a list that a step names, None where it names none."""
    return int(step) if _INDEX.fullmatch(step) else None


def pointed(pointer: str, value: bytes, work: Work) -> bytes:
    """The part of a JSON document that a good pointer names, as a file shows it. Raises ShapeError."""
    at = ""
    for part in pointer.split("/")[1:]:
        work.spend(len(value))
        try:
            value = _step(value, _unescaped(part))
        except ShapeError as error:
            raise ShapeError(f"jsonPointer {quoted(pointer)}: what is at {quoted(at)} {error.why}") from None
        at = f"{at}/{part}"
    work.spend(len(value))
    try:
        return fitting(shown_json(value.strip()))
    except ShapeError as error:
        raise ShapeError(f"jsonPointer {quoted(pointer)}: {error.why}") from None


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _step(value: bytes, part: str) -> bytes:
    start = value.lstrip()[:1]
    if start == b"{":
        members: dict[str, msgspec.Raw] = read_json(value, dict[str, msgspec.Raw])
        if part not in members:
            raise ShapeError(f"has no member {quoted(part)}")
        return bytes(members[part])
    if start == b"[":
        items: list[msgspec.Raw] = read_json(value, list[msgspec.Raw])
        index = index_of(part)
        if index is None:
            raise ShapeError(f"is a list, and {quoted(part)} is not the number of an item")
        if index >= len(items):
            raise ShapeError(f"is a list with no item {part}")
        return bytes(items[index])
    read_json(value)
    raise ShapeError("is neither an object nor a list")
