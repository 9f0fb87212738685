"""Who wants the events of which folder. One inotify instance for all; a folder that two want is watched once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from agent.sources.system import Event, In, Inotify

MASK = (
    In.CLOSE_WRITE
    | In.CREATE
    | In.DELETE
    | In.MOVED_FROM
    | In.MOVED_TO
    | In.DELETE_SELF
    | In.MOVE_SELF
    | In.ONLYDIR
    | In.EXCL_UNLINK
)
"""One mask for every folder, because the kernel keeps one for each. No IN_MODIFY: what is not closed is not done."""

T = TypeVar("T")


class Role(Enum):
    """What a folder is to a secret."""

    ABOVE = "above"
    OWN = "own"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder's role; for one above, the name of the next folder on the way to the secret."""

    role: Role
    next: str = ""


class Watches(Generic[T]):
    """The watches of one inotify instance, by who holds them. Raises OSError as inotify does."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._holders: dict[int, set[tuple[T, Place]]] = {}

    @property
    def fd(self) -> int:
        """The descriptor that becomes readable when something has happened."""
        return self._inotify.fd

    def hold(self, folder: int, holder: T, place: Place) -> int:
        """Watch the folder that a descriptor is open on; gives the watch's number. Idempotent."""
        watch = self._inotify.add(folder, MASK)
        self._holders.setdefault(watch, set()).add((holder, place))
        return watch

    def release(self, watch: int, holder: T, place: Place) -> None:
        """The holder no longer wants it. Idempotent."""
        holders = self._holders.get(watch)
        if holders is None:
            return
        holders.discard((holder, place))
        if not holders:
            del self._holders[watch]
            self._inotify.remove(watch)

    def read(self) -> list[Event]:
        """Some of what is queued, nothing where nothing is."""
        return self._inotify.read()

    def holders(self, event: Event) -> list[tuple[T, Place]]:
        """Who wants to know. A watch that the kernel took away is forgotten after this."""
        if event.mask & In.IGNORED:
            return list(self._holders.pop(event.watch, ()))
        return list(self._holders.get(event.watch, ()))

    def __len__(self) -> int:
        return len(self._holders)

    def close(self) -> None:
        """Stop watching everything. Idempotent."""
        self._holders.clear()
        self._inotify.close()
