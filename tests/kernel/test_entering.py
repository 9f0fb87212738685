"""Whoever comes into a container other than as a descendant of its first task."""

from __future__ import annotations

import pytest

from agent.kernel.layout import Reason
from agent.model import AccessRule, From
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import VALUE, cats, served, shown


@pytest.mark.parametrize("from_", [From.APP, From.MAIN])
@pytest.mark.parametrize("join", ["first", "last"])
def test_an_entered_shell_its_children_and_its_orphans_are_refused(any_node: Node, from_: From, join: str) -> None:
    pod, volume = shown(any_node, from_)
    app = pod.container()
    shell = pod.exec(app, join=join)
    orphan = shell.orphan()
    family = (shell, shell.spawn(), shell.thread(), orphan, orphan.orphan(), shell.orphan().execute())
    for task in family:
        assert not served(task), task.label
    assert not cats(shell)
    assert volume.refusals() == {Reason.ENTERED: len(family) + 1}
    assert served(app)


def test_an_entered_shell_whose_orphan_was_adopted_by_the_first_program_is_still_refused(node: Node) -> None:
    pod, _ = shown(node, From.APP)
    app = pod.container()
    orphan = pod.exec(app).orphan()
    assert int(orphan("attempt", "getppid")) == 1 == app.inner_pid
    assert not served(orphan)


def test_any_lets_the_entered_shell_read(any_node: Node) -> None:
    pod, _ = shown(any_node, From.ANY)
    assert served(pod.exec(pod.container()))


@pytest.mark.parametrize("from_", [From.APP, From.MAIN])
def test_a_task_that_is_moved_into_the_pod_is_refused(any_node: Node, from_: From) -> None:
    pod, volume = shown(any_node, from_)
    pod.container()
    moved = any_node.process(cgroup=pod.cgroup_of("app"))
    path = str(volume.target / "password")
    assert not served(moved, path)
    assert not served(moved.spawn(), path)
    assert not served(moved.execute(), path)
    assert set(volume.refusals()) == {Reason.ENTERED}


def test_whoever_enters_a_container_that_ran_before_its_pod_was_followed_is_not_its_first_task(any_node: Node) -> None:
    """As after a loss of the node's maps: what runs is refused until it is started anew, and nobody takes its place."""
    pod = any_node.pod()
    early = any_node.process(cgroup=pod.cgroup_of("app"))
    volume = any_node.publish(pod, {"db": {"password": VALUE}}, AccessRule(From.APP))
    path = str(volume.target / "password")
    late = any_node.process(cgroup=pod.cgroup_of("app"))
    assert not served(early, path)
    assert not served(late, path)
    assert any_node.kernel.pods.main_tasks() == {}
    assert served(pod.container("restarted"))
    assert volume.refusals() == {Reason.ENTERED: 2}


def test_a_task_that_is_moved_from_one_container_to_another_keeps_its_own_lineage(any_node: Node) -> None:
    pod, _ = shown(any_node, From.APP)
    app, side = pod.container(), pod.container("side")
    shell = pod.exec(app)
    any_node.move(shell, pod.cgroup_of("side"))
    any_node.move(app, pod.cgroup_of("side"))
    assert (served(shell), served(app), served(side)) == (False, True, True)


def test_a_task_that_leaves_the_pod_reads_no_more(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    other, _ = shown(any_node, From.APP)
    app = pod.container()
    any_node.move(app, other.cgroup_of("app"))
    assert not served(app)
    assert volume.refusals() == {Reason.POD: 1}
    # Nor has it become one of the other pod's.
    any_node.move(app, pod.cgroup_of("app"))
    assert not served(app)


def test_a_sub_cgroup_of_a_container_changes_nothing(any_node: Node) -> None:
    pod, _ = shown(any_node, From.APP)
    app = pod.container()
    child, shell = app.spawn(), pod.exec(app)
    below = pod.cgroup_of("app") / "below" / "deeper"
    below.mkdir(parents=True)
    for task, may in ((child, True), (shell, False)):
        any_node.move(task, below)
        assert served(task) is may
        assert served(task.spawn()) is may


def test_a_child_cloned_straight_into_the_container_is_refused(any_node: Node) -> None:
    """clone3(CLONE_INTO_CGROUP) is a fork that begins in another cgroup; only v2 has it."""
    assert any_node.facts.cgroup is not None
    if any_node.facts.cgroup.version != 2:
        return
    pod, volume = shown(any_node, From.APP)
    app = pod.container()
    cloned = any_node.process().spawn_into(pod.cgroup_of("app"))
    assert not served(cloned, str(volume.target / "password"))
    assert served(app)


def test_a_first_task_cloned_straight_into_its_container_is_its_root(any_node: Node) -> None:
    assert any_node.facts.cgroup is not None
    if any_node.facts.cgroup.version != 2:
        return
    pod, volume = shown(any_node, From.APP)
    cloned = any_node.process().spawn_into(pod.cgroup_of("app"))
    assert served(cloned, str(volume.target / "password"))
