"""The safe of nodes without BPF."""

from __future__ import annotations

import gc

import pytest

from agent.safe import MemorySafe
from tests.unit.safe.contract import SafeContract


@pytest.fixture
def safe() -> MemorySafe:
    return MemorySafe()


class TestMemorySafe(SafeContract):
    pass


def test_it_says_that_it_ends_with_the_agent(safe: MemorySafe) -> None:
    assert not safe.outlives_agent


def test_what_was_replaced_or_dropped_is_overwritten(safe: MemorySafe) -> None:
    safe.put("token", b"first value")
    safe.put("lease", b"another one")
    held = [thing for thing in gc.get_referents(*gc.get_referents(safe._blobs)) if isinstance(thing, bytearray)]
    assert sorted(held) == [b"another one", b"first value"]
    safe.put("token", b"second value")
    safe.drop("lease")
    assert held == [bytearray(11), bytearray(11)]
