"""Versions of ordinary files that are no longer shown, but stay a while: a reader that resolved `..data` just before it
moved would else find an empty folder, or open what was overwritten a moment ago.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.delivery.retiring import retire

LINGER_S = 2.0
"""How long a version outlives its end. A path is resolved in microseconds, unless the reader is kept from running."""
MOST_LINGERING = 16
"""Versions of one volume that stay, however fast it rotates."""


class Later(Protocol):
    """Calls something in so many seconds, as a loop's `call_later` does."""

    def __call__(self, delay: float, callback: Callable[[Path], object], version: Path, /) -> object: ...


class Lingering:
    """What is on its way out, by volume. Without `later` nothing stays: it goes at once."""

    def __init__(self, later: Later | None = None) -> None:
        self._later = later
        self._of: dict[Path, deque[tuple[Path, bool]]] = {}

    def add(self, version: Path, *, is_shown_elsewhere: bool) -> None:
        """A version's folder that is shown no longer; as `retire`."""
        root = version.parent
        staying = self._of.setdefault(root, deque())
        staying.append((version, is_shown_elsewhere))
        if self._later is None:
            self.end(root)
            return
        if len(staying) > MOST_LINGERING:
            self._retire_first(root)
        self._later(LINGER_S, self._due, version)

    def end(self, root: Path) -> None:
        """All of a volume's go now."""
        while root in self._of:
            self._retire_first(root)

    def forget(self, root: Path) -> None:
        """The volume's folders are removed by another."""
        self._of.pop(root, None)

    def _due(self, version: Path) -> None:
        # The oldest goes first, so what is older than this one is due, too.
        root = version.parent
        while any(version == one for one, _ in self._of.get(root, ())):
            self._retire_first(root)

    def _retire_first(self, root: Path) -> None:
        staying = self._of[root]
        version, is_shown_elsewhere = staying.popleft()
        if not staying:
            del self._of[root]
        retire(version, is_shown_elsewhere=is_shown_elsewhere)
