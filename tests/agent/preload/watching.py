"""What was seen of a program: its reads, and whatever was not one whole value at least as new as the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MOST_FAULTS: Final = 10


@dataclass(slots=True)
class Seen:
    """Reads of a program by the way in which it read."""

    reads: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    last: int = 0
    """The newest version that it read."""
    versions: int = 0
    """How many different ones it read."""
    has_shim: bool = False
    refused: int = 0
    """Reloads for which nginx met two versions in one file, so that it went on with what it had."""

    def read(self, way: str, number: int, floor: int | None = None) -> None:
        """One whole value; it is a fault where it is older than the newest so far, or than `floor` where given."""
        self.reads[way] = self.reads.get(way, 0) + 1
        least = self.last if floor is None else floor
        if number < least:
            self.fault(way, f"{number} after {least}")
        self.versions += number > self.last
        self.last = max(self.last, number)

    def fault(self, way: str, what: str) -> None:
        """Anything else."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{way}: {what}")

    @property
    def total(self) -> int:
        """Reads in all ways."""
        return sum(self.reads.values())
