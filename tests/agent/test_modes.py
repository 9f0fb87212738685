"""The table of docs/modes.md, for the ways of delivery that a node's agent has: each cell is met in a real pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from kernelsecret import names
from kernelsecret.cli.simulation.pod import Pod
from tests.agent.harness import Node
from tests.agent.opening import opened
from tests.agent.tree import Tree, files_of
from tests.modes.asking import FIRST, FOLDER, NAME, answers
from tests.modes.table import ROWS, Row, Way

WAYS = (Way.ITER, Way.TMPFS, Way.PRELOAD)
SECRET = "payments/db"
SHIMMED = {
    names.ENV_PRELOAD: f"{names.SHIM_ROOT}/{names.SHIM_FILE}",
    names.ENV_SHIM_PATHS: FOLDER,
}


class NodePlace:
    """A pod of a node with a real agent."""

    def __init__(self, node: Node, pod: Pod, volumes: Mapping[str, Path], environment: Mapping[str, str]) -> None:
        self.node, self.pod, self.volumes, self.environment = node, pod, volumes, environment

    def change(self, value: str) -> None:
        self.node.secret(SECRET, {"password": value.encode(), "tls.crt": FIRST.encode()})


async def met(way: Way) -> dict[str, str]:
    """All answers of one way."""
    is_preload = way is Way.PRELOAD
    with opened(Node) as node:
        node.secret(SECRET, {"password": FIRST.encode(), "tls.crt": FIRST.encode()})
        node.interceptor(
            NAME,
            [files_of(SECRET, "password", "tls.crt")],
            access={"from": "app", "unenforced": "allow"},
            delivery={"modes": ["preload" if is_preload else "ebpf"]},
        )
        published = Tree.pod(node, "web", NAME)
        volumes = {NAME: published.target}
        with Pod(published.ref.uid, published.ref.namespace, published.ref.name) as pod:
            # The mode `preload` is ordinary files also on a node that could do more.
            await node.started(engine="tmpfs" if way is Way.TMPFS else "iter")
            if is_preload:
                shim = node.preload(published)
                await node.publish(shim)
                volumes[f"{names.GROUP}/shim"] = shim.target
            await node.publish(published)
            return await answers(NodePlace(node, pod, volumes, SHIMMED if is_preload else {}))


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[int, dict[str, str]]:
    """The column, and what was met."""
    column: Way = request.param
    return list(Way).index(column), asyncio.run(met(column))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.question)
def test_a_pod_meets_what_the_table_says(way: tuple[int, dict[str, str]], row: Row) -> None:
    column, found = way
    assert found[row.question] == row.cells[column].strip("`")
