"""The agent is killed at every step of what it does for a volume, and nobody ever reads anything but a whole value.

All the time another pod reads the same secrets through its own volume.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.agent.crashes import NEVER, Mortal, chosen, nothing
from tests.agent.harness import Node, until
from tests.agent.scene import LONG, OWN_KEYS, Scene, opened, version


@pytest.fixture
def mortal(node: Node) -> Iterator[Mortal]:
    made = Mortal(node)
    yield made
    made.close()


@pytest.fixture(params=["iter", "tmpfs"])
async def scene(node: Node, mortal: Mortal, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with opened(node, mortal, request.param) as made:
        yield made


async def test_a_publish_can_be_killed_at_every_step(scene: Scene) -> None:
    node, mortal, values = scene.node, scene.mortal, version("1")
    await mortal.arm(NEVER)
    await node.publish(scene.pod)
    steps = mortal.steps()
    await node.unpublish(scene.pod)
    for step in chosen(steps):
        await mortal.arm(step)
        await mortal.dies(lambda: node.publish(scene.pod))
        scene.whole_or_absent(values)
        await scene.revived()
        scene.whole_or_absent(values)
        await node.publish(scene.pod)  # kubelet tries again
        assert scene.whole_or_absent(values), f"after dying at step {step}, {steps[step - 1]}"
        await node.unpublish(scene.pod)
        await node.settled(scene.before)


async def test_an_unpublish_can_be_killed_at_every_step(scene: Scene) -> None:
    node, mortal, values = scene.node, scene.mortal, version("1")
    await node.publish(scene.pod)
    await mortal.arm(NEVER)
    await node.unpublish(scene.pod)
    await node.settled(scene.before)
    steps = mortal.steps()
    for step in chosen(steps):
        await node.publish(scene.pod)
        await mortal.arm(step)
        await mortal.dies(lambda: node.unpublish(scene.pod))
        await scene.revived()
        scene.whole_or_absent(values)
        await node.unpublish(scene.pod)  # kubelet tries again
        assert not scene.pod.target.exists(), f"after dying at step {step}, {steps[step - 1]}"
        await node.settled(scene.before)


async def test_a_rotation_can_be_killed_at_every_step(scene: Scene) -> None:
    node, mortal = scene.node, scene.mortal
    await node.publish(scene.pod)
    settled = node.footprint()
    await scene.rotated(version("2", LONG))
    await until(lambda: node.footprint()["map versions"] == settled["map versions"], "the earlier versions are freed")
    long = node.footprint()
    await scene.back(settled, "3")
    await mortal.arm(NEVER)
    await scene.rotated(version("4", LONG))
    await node.settled(long)
    steps, tag = mortal.steps(), 5
    for step in chosen(steps):
        await scene.back(settled, str(tag))
        old, new = version(str(tag)), version(str(tag + 1), LONG)
        await mortal.arm(step)
        node.secret("payments/db", new)
        await mortal.dies(nothing)
        assert scene.seen() in ([old[key] for key in OWN_KEYS], [new[key] for key in OWN_KEYS])
        await scene.revived()
        assert scene.whole_or_absent(new), f"after dying at step {step}, {steps[step - 1]}"
        sizes = [(scene.pod.target / key).stat().st_size for key in OWN_KEYS]
        assert sizes == [len(new[key]) for key in OWN_KEYS]
        tag += 2
    await scene.back(settled, str(tag))
