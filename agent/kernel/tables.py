"""The array maps that the agent sees through mmap: grants, sets, counters. Reading or flipping one is no system call.

A slot is handed out again only after `fence`, so that no program can still be looking at what it was.
"""

from __future__ import annotations

import heapq
import mmap
from ctypes import Structure, memset, sizeof
from ctypes import addressof as address_of
from typing import Generic, TypeVar

from agent.kernel.layout import Counters, Grant, Limit, Set
from kernelsecret.errors import Code, Refused

T = TypeVar("T", bound=Structure)


class Table(Generic[T]):
    """An array map of `entries` structs, mapped into the agent."""

    def __init__(self, fd: int, kind: type[T], entries: int) -> None:
        page = mmap.PAGESIZE
        self.entries = entries
        # The kernel rounds an element up to 8 bytes and the whole up to a page.
        self._stride = (sizeof(kind) + 7) // 8 * 8
        length = (self._stride * entries + page - 1) // page * page
        self._memory = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._kind = kind

    def __getitem__(self, slot: int) -> T:
        """The live struct: what is assigned to its fields is seen by the programs at once."""
        return self._kind.from_buffer(self._memory, slot * self._stride)


class SlotTable(Table[T]):
    """A table whose slots are allocated: lowest free slot first."""

    def __init__(self, fd: int, kind: type[T], entries: int, what: str) -> None:
        super().__init__(fd, kind, entries)
        self._what = what
        # What an earlier agent left in use stays in use until somebody frees it.
        self._free = [slot for slot in range(entries) if not self[slot].id]
        self._used = entries - len(self._free)

    def in_use(self) -> list[int]:
        """Slots that hold something live."""
        free = set(self._free)
        return [slot for slot in range(self.entries) if slot not in free]

    @property
    def used(self) -> int:
        """Slots in use."""
        return self._used

    def allocate(self) -> int:
        """A zeroed slot; refused when the table is full."""
        if not self._free:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                self._what,
                f"all {self.entries} of this node are in use",
                "move pods that use secrets to another node",
            )
        slot = heapq.heappop(self._free)
        self._used += 1
        self.clear(slot)
        return slot

    def clear(self, slot: int) -> None:
        """Zero a slot; its `id` goes first, so that programs see it end before it is torn."""
        entry = self[slot]
        entry.id = 0
        memset(address_of(entry), 0, sizeof(self._kind))

    def free(self, slot: int) -> None:
        """Give a slot back; call only after a fence that followed its end."""
        heapq.heappush(self._free, slot)
        self._used -= 1


def grant_table(fd: int) -> SlotTable[Grant]:
    """The grants of this node."""
    return SlotTable(fd, Grant, Limit.GRANTS, "volumes")


def set_table(fd: int) -> SlotTable[Set]:
    """The secrets served on this node."""
    return SlotTable(fd, Set, Limit.SETS, "secrets")


def counter_table(fd: int) -> Counters:
    """The node-wide counters, live."""
    return Table(fd, Counters, 1)[0]
