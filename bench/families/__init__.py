"""Who measures what. A family is one scenario in one module: `run(options)` gives its figures. To add one, write the
module and name it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.families import (
    database,
    modes,
    node,
    polls,
    programs,
    pushed,
    reads,
    rotation,
    shared,
    shim,
    torn,
    unmanaged,
    vault,
    webhook,
)
from bench.options import Options, Outcome


@dataclass(frozen=True, slots=True)
class Family:
    """One scenario, and the figures that it gives."""

    name: str
    figures: tuple[str, ...]
    run: Callable[[Options], Outcome] = field(repr=False)


# `node` comes first: what others leave behind is still being freed while it would count.
FAMILIES = tuple(
    Family(module.__name__.rpartition(".")[2], module.FIGURES, module.run)
    for module in (
        node,
        unmanaged,
        reads,
        rotation,
        torn,
        shared,
        webhook,
        polls,
        vault,
        database,
        pushed,
        shim,
        modes,
        programs,
    )
)


def chosen(names: Sequence[str]) -> list[Family]:
    """The families that have one of these names or measure one of these figures; all where no name is given. Raises
    KeyError for a name that is neither.
    """
    for name in names:
        if not any(name == family.name or name in family.figures for family in FAMILIES):
            raise KeyError(name)
    return [
        family
        for family in FAMILIES
        if not names or family.name in names or any(name in family.figures for name in names)
    ]
