"""The agent is killed at every step of its start: of the first one, and of the one that takes over a wreck."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agent.settings import Settings
from agent.upkeep import clean
from tests.agent.crashes import NEVER, Mortal, chosen, nothing
from tests.agent.harness import Node, wait_for_end
from tests.agent.scene import OWN_KEYS, Scene, opened, version
from tests.agent.tree import files_of

FIRST_STARTS = 24
ADOPTIONS = 60


@pytest.fixture
def mortal(node: Node) -> Iterator[Mortal]:
    made = Mortal(node)
    yield made
    made.close()


@pytest.fixture(params=["iter", "tmpfs"])
async def scene(node: Node, mortal: Mortal, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with opened(node, mortal, request.param) as made:
        yield made


async def test_an_adoption_can_be_killed_at_every_step(scene: Scene) -> None:
    node, mortal, tag = scene.node, scene.mortal, 2
    await node.publish(scene.pod)
    node.interceptor("wreck", [files_of("payments/db", "wreck", "username")], access={"unenforced": "allow"})
    wreck = node.pod("wreck", "wreck")
    settled = node.footprint()

    async def wrecked() -> None:
        """A third volume, left half-way, of a key that nobody else shows; and a rotation that nobody was told of."""
        await scene.rotated(version(str(tag)) | {"wreck": f"wreck-{tag}".encode()})
        await node.settled(settled)
        await mortal.arm(NEVER)
        await node.publish(wreck)
        half = len(mortal.steps()) * 2 // 3
        await node.unpublish(wreck)
        await mortal.arm(half)
        await mortal.dies(lambda: node.publish(wreck))
        node.secret("payments/db", version(str(tag + 1)))

    await wrecked()
    mortal.start(NEVER)
    await node.ready()
    await node.settled(settled)
    steps = mortal.steps()
    for step in chosen(steps, ADOPTIONS):
        tag += 2
        await wrecked()
        mortal.start(step)
        await mortal.dies(nothing)
        await scene.revived()
        assert scene.whole_or_absent(version(str(tag + 1))), f"after dying at step {step}, {steps[step - 1]}"
        sizes = [(scene.pod.target / key).stat().st_size for key in OWN_KEYS]
        assert sizes == [len(version(str(tag + 1))[key]) for key in OWN_KEYS]
        await node.unpublish(wreck)  # kubelet gave up: it must be gone whatever was left
        await node.settled(settled)


async def test_the_first_start_can_be_killed_at_every_step(node: Node, mortal: Mortal) -> None:
    node.secret("payments/db", version("1"))
    node.interceptor("payments", [files_of("payments/db", *OWN_KEYS)])
    pod = node.pod("web", "payments")
    program = node.program(pod)
    mortal.start(NEVER)
    await node.ready()
    steps = mortal.steps()
    for count, step in enumerate(chosen(steps, FIRST_STARTS)):
        if not wait_for_end(node.pid, 0):
            node.kill()
        clean(Settings.load(node.env))
        assert node.mounts() == []
        mortal.start(step)
        await mortal.dies(nothing)
        if count % 2:
            continue  # and whatever there is must be clean's to remove
        mortal.start()
        await node.ready()
        await node.publish(pod)
        assert program.read(pod.target / OWN_KEYS[0]) == [version("1")[OWN_KEYS[0]]]
        await node.unpublish(pod)
