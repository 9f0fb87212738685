"""From Vault's JSON to the keys of a secret, and when a later answer may take an earlier one's place. Pure.

A string is its UTF-8 bytes; a number, a list or an object its compact JSON text; `null` is no key. An answer counts as
a whole or not at all, so that keys of two versions are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agent.sources.keys import MAX_BYTES, MAX_KEYS
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import shown

_CLOCKS = ("ttl",)
"""What engines count down in every answer (`database/static-creds`): no change by itself."""


def values_of(name: str, data: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of an answer's data. `name` is what the secret is called in a refusal.

    Raises Refused: FAILED_PRECONDITION for what cannot be served, NOT_FOUND where there is no key at all.
    """
    values = {key: _bytes(name, key, value) for key, value in data.items() if value is not None}
    if not values:
        raise Refused(Code.NOT_FOUND, name, "the secret has no keys", "write one to it")
    if len(values) > MAX_KEYS:
        fix = "split it into several secrets"
        raise Refused(Code.FAILED_PRECONDITION, name, f"has more than {MAX_KEYS} keys", fix)
    return values


def refuse_emptied(name: str, good: Mapping[str, bytes], new: Mapping[str, bytes]) -> None:
    """A key that had a value and is empty now is a mistake more often than a wish: the new version is not taken.

    A key that is gone is no concern here: whoever shows it says so. Raises Refused.
    """
    emptied = next((key for key, value in sorted(new.items()) if not value and good.get(key)), None)
    if emptied is not None:
        fix = "write its value, or take the key out; the last good version goes on being served"
        raise Refused(Code.FAILED_PRECONDITION, f"{name}[{shown(emptied)}]", "became empty", fix)


class Fit:
    """Whether the version that was looked at last can be shown: what it said once it says until there is another."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._refusal: Refused | None = None

    def another(self, good: Mapping[str, bytes], data: Mapping[str, Any]) -> dict[str, bytes]:
        """The keys of another version, where `good` is what is shown. Raises Refused."""
        self._refusal = None
        try:
            values = values_of(self._name, data)
            refuse_emptied(self._name, good, values)
        except Refused as refusal:
            self._refusal = refusal
            raise
        return values

    def same(self) -> None:
        """It is the same version as before. Raises Refused as it did."""
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)


def essence(values: Mapping[str, bytes]) -> dict[str, bytes]:
    """What makes an answer of an engine another version: all but what it counts down."""
    return {key: value for key, value in values.items() if not (key in _CLOCKS and value.isdigit())}


def _bytes(name: str, key: str, value: Any) -> bytes:
    try:
        data = value.encode() if isinstance(value, str) else msgspec.json.encode(value)
    except (UnicodeEncodeError, RecursionError, ValueError, TypeError) as error:
        why = "is no text that UTF-8 can hold"
        raise Refused(Code.FAILED_PRECONDITION, f"{name}[{shown(key)}]", why, "write another value") from error
    if len(data) > MAX_BYTES:
        why, fix = f"has more than {MAX_BYTES} bytes", "store less in it"
        raise Refused(Code.FAILED_PRECONDITION, f"{name}[{shown(key)}]", why, fix)
    return data
