"""Unmodified programs under the shim, with a secret that rotates all the time: every row of docs/preload.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.agent.harness import Node
from tests.agent.opening import opened
from tests.agent.preload.matrix import Outcome
from tests.agent.preload.node_place import meet
from tests.agent.preload.place import lack, path_of
from tests.agent.preload.rows import ROWS, Row
from tests.needs import need

SECONDS = 6.0
LEAST_ROTATIONS = 60
LEAST_VERSIONS = 3


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    """All programs side by side."""
    need(lack() is None, lack() or "")
    with opened(Node) as node:
        asyncio.run(node.started())
        yield meet(node, SECONDS)


def test_the_secret_rotated_all_the_time(outcome: Outcome) -> None:
    assert outcome.rotations >= LEAST_ROTATIONS
    assert set(outcome.seen) == {row.program for row in ROWS}
    assert outcome.errors == 0, {name: seen.faults for name, seen in outcome.seen.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.program)
def test_a_program_meets_one_whole_version_and_none_that_is_older_than_the_last(outcome: Outcome, row: Row) -> None:
    seen = outcome.seen[row.program]
    assert seen.faults == []
    assert set(seen.reads) == row.ways
    assert seen.last >= outcome.newest_for(row.program)
    assert seen.versions >= LEAST_VERSIONS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.program)
def test_only_a_static_program_is_without_the_shim(outcome: Outcome, row: Row) -> None:
    assert outcome.seen[row.program].has_shim is row.has_shim


def test_the_agent_tells_of_the_static_program_and_of_no_other(outcome: Outcome) -> None:
    assert outcome.unaffected == {path_of("busybox"): "static"}
