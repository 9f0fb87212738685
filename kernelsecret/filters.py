"""The filters of templates, and what holds them back: bytes in, bytes out, with a budget of work. Pure.

Errors say what failed, and never what it was given.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from kernelsecret.errors import KernelSecretError
from kernelsecret.problems import quoted
from kernelsecret.validation_limits import MAX_FILE_BYTES

MAX_WORK: Final = 16 << 20
"""Bytes that may be looked at to make one file: this is what bounds the time."""
MAX_LINES: Final = 4096
"""Items of a list that may become lines."""
_ITEM_WORK: Final = 1024
"""What an item of a list costs beside its bytes."""
_BLANKS: Final = b" \t\r\n"


class ShapeError(KernelSecretError):
    """Why a file cannot be made of a secret's values: names of keys, pointers and filters, never a value.

    `item` is the item of the shape that failed; empty where a template or pointer was only read.
    """

    def __init__(self, why: str, item: str = "") -> None:
        self.why = why
        self.item = item
        super().__init__(why)


class Work:
    """What one file may still cost."""

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, number: int) -> None:
        """Raises ShapeError once too many bytes were looked at."""
        self._left -= number
        if self._left < 0:
            raise ShapeError(f"takes more work than one file may: over {MAX_WORK} bytes are looked at")


def fitting(made: bytes) -> bytes:
    """What was made, unless it is larger than any file may be."""
    if len(made) > MAX_FILE_BYTES:
        raise ShapeError(f"makes more than {MAX_FILE_BYTES} bytes")
    return made


def read_json(value: bytes, kind: Any = Any) -> Any:
    """A JSON document of that kind; bad UTF-8 is refused everywhere in it."""
    try:
        value.decode()
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        is_other = isinstance(error, msgspec.ValidationError)
        raise ShapeError("is JSON of another kind" if is_other else "is not JSON") from None


def shown_json(raw: bytes) -> bytes:
    """A part of a JSON document as a file shows it: a string's own text, anything else as compact JSON."""
    if raw.startswith(b'"'):
        text: str = read_json(raw, str)
        return _encoded(text)
    try:
        return msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        raise ShapeError("is not JSON") from None


def base64decode(value: bytes) -> bytes:
    """Standard base64 with its padding; blanks and line breaks in it are passed over."""
    try:
        return binascii.a2b_base64(value.translate(None, _BLANKS), strict_mode=True)
    except binascii.Error:
        raise ShapeError("is not base64 of the standard alphabet with its padding") from None


def json_object(values: Mapping[str, bytes]) -> bytes:
    """All keys as one JSON object, sorted; every value is a string."""
    made = {}
    for name in sorted(values):
        try:
            made[name] = values[name].decode()
        except UnicodeDecodeError:
            raise ShapeError(f"the value of the key {quoted(name)} is not UTF-8 text") from None
    return msgspec.json.encode(made)


def _base64(value: bytes, _work: Work) -> bytes:
    return binascii.b2a_base64(value, newline=False)


def _base64decode(value: bytes, _work: Work) -> bytes:
    return base64decode(value)


def _json(value: bytes, _work: Work) -> bytes:
    try:
        return msgspec.json.encode(value.decode())
    except UnicodeDecodeError:
        raise ShapeError("is not UTF-8 text, and base64 makes it one") from None


def _lines(value: bytes, work: Work) -> bytes:
    """A JSON list, such as Vault's `ca_chain`, one item a line."""
    items: list[msgspec.Raw] = read_json(value, list[msgspec.Raw])
    if len(items) > MAX_LINES:
        raise ShapeError(f"is a list of more than {MAX_LINES} items")
    work.spend(len(items) * _ITEM_WORK)
    return b"\n".join(shown_json(bytes(item)).rstrip(b"\n") for item in items)


def _trim(value: bytes, _work: Work) -> bytes:
    return value.strip(_BLANKS)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ShapeError("is not JSON of whole characters") from None


FILTERS: Final[Mapping[str, Callable[[bytes, Work], bytes]]] = MappingProxyType(
    {"json": _json, "base64": _base64, "base64decode": _base64decode, "lines": _lines, "trim": _trim}
)


def filtered(name: str, value: bytes, work: Work) -> bytes:
    """The value through one filter. Raises ShapeError that names it."""
    work.spend(len(value))
    try:
        return fitting(FILTERS[name](value, work))
    except ShapeError as error:
        raise ShapeError(f"filter {name}: {error.why}") from None
