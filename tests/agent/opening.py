"""A node of a test's own, and what must not be left of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tests.agent import leaks
from tests.agent.harness import Node

FREED_WITHIN_S = 10.0
"""The kernel frees maps and programs behind our back, after grace periods."""
AnyNode = TypeVar("AnyNode", bound=Node)


@contextmanager
def opened(make: Callable[[], AnyNode]) -> Iterator[AnyNode]:
    """A node without an agent yet; afterwards no mount, cgroup, map, program or link is left of it."""
    before = leaks.kernel_objects()
    made = make()
    alone = not leaks.strangers(made.base)
    try:
        yield made
    finally:
        alone = alone and not leaks.strangers(made.base)
        left = made.close()
    assert not left
    if alone:
        _nothing_left(before)


def _nothing_left(before: set[tuple[str, int]]) -> None:
    end = time.monotonic() + FREED_WITHIN_S
    while left := leaks.kernel_objects() - before:
        assert time.monotonic() < end, f"kernel objects are left: {sorted(left)}"
        time.sleep(0.02)
