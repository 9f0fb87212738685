"""The agent is killed at every step of what it does for a volume, and nobody ever reads anything but a whole value.

All the time another pod reads the same secrets through its own volume.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator

import pytest

from tests.agent.crashes import NEVER, Mortal, chosen, nothing
from tests.agent.harness import Node, until
from tests.agent.scene import LONG, OWN_KEYS, Scene, opened, version

AT_ONCE = 12


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


async def test_many_calls_at_once_survive_kills_in_their_middle(scene: Scene) -> None:
    node, mortal = scene.node, scene.mortal
    pods = [node.pod(f"many-{number}", "payments") for number in range(AT_ONCE)]

    async def tried(calls: list[Coroutine[None, None, None]]) -> None:
        """As kubelet, which meets an agent that dies."""
        await asyncio.gather(*calls, return_exceptions=True)

    for die_at in (AT_ONCE * 3, AT_ONCE * 10, AT_ONCE * 17):
        await mortal.arm(die_at)
        await mortal.dies(lambda: tried([node.publish(pod) for pod in pods]))
        await scene.revived()
        await asyncio.gather(*(node.publish(pod) for pod in pods))
        for pod in pods:
            assert (pod.target / OWN_KEYS[0]).stat().st_size == len(version("1")[OWN_KEYS[0]])
        await mortal.arm(die_at // 5)
        await mortal.dies(lambda: tried([node.unpublish(pod) for pod in pods]))
        await scene.revived()
        await asyncio.gather(*(node.unpublish(pod) for pod in pods))
        await node.settled(scene.before)
