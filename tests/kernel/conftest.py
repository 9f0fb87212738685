"""A node for each test, and the guard that nothing of it remains."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery import mounts
from agent.kernel.node import CgroupHierarchy, NodeFacts, read_facts
from agent.kernel.programs import Tuning
from tests.kernel.harness import eyes
from tests.kernel.harness.node import LONG_GRACE, Node
from tests.kernel.harness.waiting import wait_until


class Guard:
    """What of the kernel's was there before a test, and must be all there is after it.

    The kernel frees maps, programs and links some grace periods after their last holder, so the guard waits for them.
    In CI every object of the machine counts; elsewhere, where others may work beside, only what the test made.
    """

    def __init__(self, folder: Path) -> None:
        self.made: set[tuple[str, int]] = set()
        self._folder = folder
        self._is_alone = os.environ.get("CI") == "true"
        self._objects = eyes.everything()
        self._descriptors = eyes.own_descriptors()
        self._mounts = self._list_mounts()
        self._cgroups = self._list_cgroups()

    def _list_mounts(self) -> set[str]:
        if self._is_alone:
            return {f"{mount.mount_id} {mount.point}" for mount in mounts.read_mounts()}
        return set(mounts.mounts_below(self._folder, mounts.read_mounts()))

    def _list_cgroups(self) -> set[str]:
        if not self._is_alone:
            return set()
        roots = {mount.point for mount in mounts.read_mounts() if mount.kind in ("cgroup", "cgroup2")}
        return {folder for root in roots for folder, _, _ in os.walk(Path(root) / "kubepods")}

    def remains(self) -> set[object]:
        """What is there and should not be."""
        now = eyes.everything()
        objects: set[object] = set(now - self._objects if self._is_alone else now & self.made)
        objects |= self._list_mounts() - self._mounts
        objects |= self._list_cgroups() - self._cgroups
        return objects | (set(eyes.own_descriptors()) - set(self._descriptors))


HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes that a test has failed, for the guard."""
    report = yield
    if report.failed:
        item.stash[HAS_FAILED] = True
    return report


@pytest.fixture(autouse=True)
def guard(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Guard]:
    """After every test no map, program, link, mount or cgroup of it remains."""
    kept = Guard(tmp_path)
    yield kept
    if request.node.stash.get(HAS_FAILED, False):
        return  # what the failure shows still refers to the node
    wait_until(
        lambda: not kept.remains(), lambda: f"nothing remains of the test, but {sorted(map(str, kept.remains()))}"
    )


@pytest.fixture(scope="session")
def facts() -> NodeFacts:
    """This node's."""
    return read_facts()


def hierarchies() -> list[CgroupHierarchy]:
    """Every hierarchy that this machine can play a node with: its own, and the unified one beside v1."""
    own = read_facts().cgroup
    found = [own] if own else []
    unified = [Path(mount.point) for mount in mounts.read_mounts() if mount.kind == "cgroup2"]
    if own and own.version == 1 and unified:
        found.append(CgroupHierarchy(2, 0, unified[0]))
    return found


Open = Callable[..., Node]


@pytest.fixture
def open_node(tmp_path: Path, guard: Guard, facts: NodeFacts) -> Iterator[Open]:
    """Opens nodes with settings of the test's own."""
    opened: list[Node] = []

    def open_one(
        tuning: Tuning = LONG_GRACE, hierarchy: CgroupHierarchy | None = facts.cgroup, without_cgroups: bool = False
    ) -> Node:
        folder = tmp_path / f"node{len(opened)}"
        folder.mkdir()
        opened.append(Node(folder, replace(facts, cgroup=None if without_cgroups else hierarchy), tuning))
        return opened[-1]

    yield open_one
    for node in opened:
        node.close()
        guard.made |= node.made


@pytest.fixture
def node(open_node: Open) -> Node:
    """A node on which a task stays with a generation for ever, so that no test depends on time."""
    return open_node()


@pytest.fixture(params=hierarchies(), ids=lambda hierarchy: f"cgroup-v{hierarchy.version}")
def any_node(request: pytest.FixtureRequest, open_node: Open) -> Node:
    """A node of each cgroup version that this machine has."""
    return open_node(hierarchy=request.param)
