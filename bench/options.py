"""What a family is told, and what it gives back."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from bench.figures import Figure
from bench.results import Series


@dataclass(frozen=True, slots=True)
class Options:
    """`quick`: an idea of each figure in seconds, too few rounds to promise anything."""

    quick: bool = False

    def rounds(self, full: int, quick: int) -> int:
        """How often something is done."""
        return quick if self.quick else full


@dataclass(slots=True)
class Outcome:
    """Figures of a family, and points for the plots."""

    figures: list[Figure] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"  {text}", file=sys.stderr, flush=True)
