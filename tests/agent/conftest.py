"""A node for each test, and what must not be left when it has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.agent import leaks
from tests.agent.harness import Node

FREED_WITHIN_S = 10.0
"""The kernel frees maps and programs behind our back, after grace periods."""


@contextmanager
def opened() -> Iterator[Node]:
    """A node without an agent yet; afterwards no mount, cgroup, map, program or link is left of it."""
    before = leaks.kernel_objects()
    made = Node()
    alone = not leaks.strangers(made.base)
    try:
        yield made
    finally:
        alone = alone and not leaks.strangers(made.base)
        left = made.close()
    assert not left
    if alone:
        _nothing_left(before)


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of the test's own."""
    with opened() as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[Node]:
    """A node with its agent, for the tests of a module that leave it as it was."""
    with opened() as made:
        asyncio.run(made.started())
        yield made


def _nothing_left(before: set[tuple[str, int]]) -> None:
    end = time.monotonic() + FREED_WITHIN_S
    while left := leaks.kernel_objects() - before:
        assert time.monotonic() < end, f"kernel objects are left: {sorted(left)}"
        time.sleep(0.02)
