"""The agent is killed at every step of what it does for the shim: what a pod has of it is whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from agent.delivery.shims import LIBRARY
from kernelsecret.names import SHIM_FILE
from tests.agent.crashes import NEVER, Mortal, chosen
from tests.agent.harness import Node
from tests.agent.tree import Pod, Tree, files_of


@pytest.fixture
def mortal(node: Node) -> Iterator[Mortal]:
    made = Mortal(node)
    yield made
    made.close()


def is_there(shim: Pod) -> bool:
    """Whether a pod has it, as a whole."""
    if not shim.target.exists() or not os.listdir(shim.target):
        return False
    assert os.listdir(shim.target) == [SHIM_FILE]
    assert (shim.target / SHIM_FILE).read_bytes() == LIBRARY.read_bytes()
    return True


async def test_publish_and_unpublish_of_the_shim_can_be_killed_at_every_step(node: Node, mortal: Mortal) -> None:
    node.env["KERNELSECRET_ENGINE"] = "tmpfs"
    node.interceptor("db", [files_of("payments/db", "password")])
    mortal.start()
    await node.ready()
    shim, before = node.preload(Tree.pod(node, "web", "db")), node.footprint()
    await mortal.arm(NEVER)
    await node.publish(shim)
    publishing = mortal.steps()
    await mortal.arm(NEVER)
    await node.unpublish(shim)
    unpublishing = mortal.steps()
    for step in chosen(publishing):
        await mortal.arm(step)
        await mortal.dies(lambda: node.publish(shim))
        is_there(shim)
        mortal.start()
        await node.ready()
        await node.publish(shim)  # kubelet tries again
        assert is_there(shim), f"after dying at step {step}, {publishing[step - 1]}"
        await node.unpublish(shim)
        await node.settled(before)
    for step in chosen(unpublishing):
        await node.publish(shim)
        await mortal.arm(step)
        await mortal.dies(lambda: node.unpublish(shim))
        is_there(shim)
        mortal.start()
        await node.ready()
        await node.unpublish(shim)  # kubelet tries again
        assert not shim.target.exists(), f"after dying at step {step}, {unpublishing[step - 1]}"
        await node.settled(before)
