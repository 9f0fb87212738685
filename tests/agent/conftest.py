"""A node for each test, and what must not be left when it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.agent.harness import Node
from tests.agent.opening import opened


@pytest.fixture
def node() -> Iterator[Node]:
    """A node of the test's own."""
    with opened(Node) as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[Node]:
    """A node with its agent, for the tests of a module that leave it as it was."""
    with opened(Node) as made:
        asyncio.run(made.started())
        yield made
