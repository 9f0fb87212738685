"""JSON Patch (RFC 6902) as its document says it, for plain data: the judge of the operations that we write."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any


class PatchError(Exception):
    """An operation that cannot be applied."""


def parts_of(pointer: str) -> list[str]:
    """The reference tokens of a JSON Pointer (RFC 6901)."""
    if pointer and not pointer.startswith("/"):
        raise PatchError(f"{pointer} does not begin with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def apply(document: Any, operations: Sequence[dict[str, Any]]) -> Any:
    """A patched copy. Only `add`, which is all that is written; others are an error."""
    made = copy.deepcopy(document)
    for operation in operations:
        if set(operation) != {"op", "path", "value"} or operation["op"] != "add":
            raise PatchError(f"not an add: {operation}")
        *way, last = parts_of(operation["path"])
        at = made
        for part in way:
            at = at[_index(part, len(at) - 1)] if isinstance(at, list) else at[part]
        value = copy.deepcopy(operation["value"])
        if isinstance(at, list):
            at.insert(len(at) if last == "-" else _index(last, len(at)), value)
        elif isinstance(at, dict):
            at[last] = value
        else:
            raise PatchError(f"{operation['path']} leads into {at!r}")
    return made


def _index(part: str, largest: int) -> int:
    if not part.isdigit() or (part != "0" and part.startswith("0")) or int(part) > largest:
        raise PatchError(f"{part} is no index up to {largest}")
    return int(part)
