"""Another build of the programs takes over live volumes; one of another layout is refused and touches nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from ctypes import c_uint32
from pathlib import Path

import pytest

from agent.kernel import calls
from agent.kernel.layout import LAYOUT_VERSION, About
from tests.agent.crashes import NEVER, Mortal, chosen, nothing
from tests.agent.harness import Node
from tests.agent.scene import KEYS, LONG, Scene, opened, version
from tests.agent.tree import Pod, files_of

UPGRADES = 30
OTHER_BUILD = "51"
"""A setting that is a constant of the programs: with another value they are another build."""


@pytest.fixture
def pod(node: Node) -> Pod:
    node.secret("payments/db", version("1", LONG))
    node.interceptor("payments", [files_of("payments/db", *KEYS)])
    return node.pod("web", "payments")


def builds(node: Node) -> list[str]:
    """The builds of the programs that are pinned."""
    return sorted(path.name for path in (node.run / "bpf").iterdir() if "programs_" in path.name)


def program_of(pin: Path) -> str:
    """The id of the program that a pin is, or that a pinned link runs."""
    fd = calls.get(str(pin))
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    finally:
        os.close(fd)
    return next(line.split()[1] for line in lines if line.startswith("prog_id:"))


def programs_of_links(node: Node) -> set[str]:
    """The ids of the programs that live volumes are served by."""
    return {program_of(path) for path in (node.run / "bpf/links").iterdir()}


async def test_live_links_get_the_new_programs_while_a_reader_reads(node: Node, pod: Pod) -> None:
    await node.started()
    await node.publish(pod)
    reader, program = node.reader(pod, *KEYS), node.program(pod)
    first = version("1", LONG)[KEYS[0]]
    assert program.hold(pod.target / KEYS[0], 100) == first[:100]
    (before,) = builds(node)
    for tag, per_second in (("2", OTHER_BUILD), ("3", "52")):
        node.kill()
        await node.started(events_per_second=per_second)
        (now,) = builds(node)
        assert now != before
        assert programs_of_links(node) == {program_of(node.run / "bpf" / now / "serve")}
        node.secret("payments/db", version(tag, LONG))
        await node.shows(pod, KEYS[0], version(tag, LONG)[KEYS[0]])
    # What was read half-way is the old program's to finish or to refuse.
    assert program.rest() in (first[100:], errno.E2BIG)
    seen = reader.finish()
    assert seen.faults == []
    assert seen.versions == ["1", "2", "3"]


def set_layout(run: Path, number: int) -> None:
    """As an agent of another layout would have left the maps."""
    fd = calls.get(str(run / "bpf/maps/about"))
    try:
        about = calls.lookup(fd, calls.Key32(0), About)
        assert about is not None
        about.layout_version = c_uint32(number).value
        calls.update(fd, calls.Key32(0), about)
    finally:
        os.close(fd)


async def test_another_layout_is_refused_with_words_and_nothing_is_touched(node: Node, pod: Pod) -> None:
    await node.started()
    await node.publish(pod)
    reader = node.reader(pod, *KEYS)
    node.kill()
    before = node.footprint()
    set_layout(node.run, LAYOUT_VERSION + 1)
    node.start(events_per_second=OTHER_BUILD)
    assert node.ended() != 0
    (failed,) = node.logged("agent failed")
    assert failed["field"] == "layout"
    assert f"layout {LAYOUT_VERSION + 1}" in failed["why"]
    assert f"layout {LAYOUT_VERSION}" in failed["why"]
    assert "drain" in failed["fix"]
    assert node.footprint() == before
    set_layout(node.run, LAYOUT_VERSION)
    await node.started()
    assert node.status()["adopted"] == 1
    seen = reader.finish()
    assert seen.faults == []


@pytest.fixture
def mortal(node: Node) -> Iterator[Mortal]:
    made = Mortal(node)
    yield made
    made.close()


@pytest.fixture
async def scene(node: Node, mortal: Mortal) -> AsyncIterator[Scene]:
    async with opened(node, mortal, "iter") as made:
        yield made


async def test_an_upgrade_can_be_killed_at_every_step_and_taken_back(scene: Scene) -> None:
    node, mortal, settled = scene.node, scene.mortal, scene.before
    await node.publish(scene.pod)
    settled = node.footprint()

    def build(number: int) -> None:
        node.kill()
        node.env["KERNELSECRET_EVENTS_PER_SECOND"] = str(number)

    build(1000)
    mortal.start(NEVER)
    await node.ready()
    steps = mortal.steps()
    assert "link_update" in steps
    for count, step in enumerate(chosen(steps, UPGRADES)):
        build(2000 + count)
        mortal.start(step)
        await mortal.dies(nothing)
        if count % 2:  # the old build comes back
            node.env["KERNELSECRET_EVENTS_PER_SECOND"] = str(1000 + count)
        await scene.revived()
        assert scene.whole_or_absent(version("1")), f"after dying at step {step}, {steps[step - 1]}"
        (build_now,) = builds(node)
        assert programs_of_links(node) == {program_of(node.run / "bpf" / build_now / "serve")}
        await node.settled(settled)
