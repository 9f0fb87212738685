"""Which engine serves a path, remembered. Pure but for the clock that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from agent.sources.vault.answers import Answer, Mount
from agent.sources.vault.errors import Kind, VaultError

KNOWN_S: Final = 300.0
_MOST: Final = 1024


class _Found(msgspec.Struct, frozen=True):
    path: str
    type: str
    options: dict[str, str] | None = None


class Mounts:
    """By Vault's namespace and the mount's path, for all readers: what kind an engine is of is no secret."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[Mount, float]] = {}

    def find(self, namespace: str, path: str) -> Mount | None:
        """The mount of a path, if it was learnt within the last minutes; of nested ones the innermost that is known."""
        parts = path.split("/")
        for count in range(len(parts), 0, -1):
            key = namespace, "/".join(parts[:count]) + "/"
            known = self._known.get(key)
            if known is not None and self._clock() < known[1]:
                return known[0]
        return None

    def learn(self, namespace: str, answer: Answer) -> Mount:
        """From the answer of sys/internal/ui/mounts. Raises VaultError (BAD_ANSWER) where it is none."""
        found = answer.data_as(_Found)
        if not found.path.endswith("/"):
            raise VaultError(Kind.BAD_ANSWER, answer.path, "Vault's answer names no mount")
        version = (found.options or {}).get("version", "")
        number = int(version) if version in ("1", "2") else 1 if found.type == "kv" else 0
        mount = Mount(
            found.path, "kv" if found.type == "generic" else found.type, number if found.type != "generic" else 1
        )
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[namespace, found.path] = mount, self._clock() + KNOWN_S
        return mount
