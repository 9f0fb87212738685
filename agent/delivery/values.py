"""Values in the kernel, each stored once: content-addressed, counted by versions, wiped with the last of them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.kernel.layout import Limit
from agent.kernel.store import Maps, StoredVersion


@dataclass(slots=True)
class Value:
    """One stored value: its kernel id, its size in bytes, and how many versions name it."""

    value_id: int
    size: int
    digest: bytes
    references: int = 0


class Values:
    """Every value of the node, by its digest: an HMAC under the node's key, so that no digest tells a value."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._held: dict[bytes, Value] = {}
        self._by_id: dict[int, Value] = {}

    def digest(self, value: bytes) -> bytes:
        """What tells two values apart."""
        return hmac.digest(self._maps.node_key, value, "sha256")[: Limit.DIGEST_BYTES]

    def hold_all(self, values: Mapping[int, bytes]) -> dict[int, Value]:
        """Each value stored once. Raises KernelError where one does not fit; none of those stored here is left then."""
        held: dict[int, Value] = {}
        try:
            for item, value in values.items():
                held[item] = self._hold(value)
        except BaseException:
            self.wipe_unused(held.values())
            raise
        return held

    def release(self, value: Value) -> None:
        """One version less names it. Only after a fence since that version was cut."""
        value.references -= 1
        if value.references == 0:
            self._wipe(value)

    def wipe_unused(self, values: Iterable[Value]) -> None:
        """Wipe those that no version names: nobody was told of them, so no program has seen them."""
        for value in values:
            if value.references == 0:
                self._wipe(value)

    def adopt(self, version: StoredVersion) -> Value:
        """The value that a version of an earlier agent names, counted once more."""
        value = self._by_id.setdefault(version.value_id, Value(version.value_id, version.size, version.digest))
        self._held.setdefault(value.digest, value)
        value.references += 1
        return value

    def sweep(self) -> None:
        """Wipe what the maps hold and no version names: an earlier agent died between the two."""
        for value_id, count in self._maps.chunk_owners().items():
            if value_id not in self._by_id:
                self._maps.wipe_value(value_id, count * Limit.CHUNK_BYTES)

    def _hold(self, value: bytes) -> Value:
        digest = self.digest(value)
        held = self._held.get(digest)
        if held is None:
            held = self._held[digest] = Value(self._maps.write_value(value), len(value), digest)
            self._by_id[held.value_id] = held
        return held

    def _wipe(self, value: Value) -> None:
        if self._by_id.pop(value.value_id, None) is None:
            return
        if self._held.get(value.digest) is value:
            del self._held[value.digest]
        self._maps.wipe_value(value.value_id, value.size)
