"""Descendants of a container's first task: what the application itself may read, and its children."""

from __future__ import annotations

import pytest

from agent.kernel import calls
from agent.kernel.layout import Container, EventType, Reason
from agent.model import From
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import VALUE, cats, served, shown


@pytest.mark.parametrize("from_", [From.APP, From.MAIN, From.ANY])
def test_the_first_program_reads_and_so_do_its_threads_and_forks(any_node: Node, from_: From) -> None:
    pod, volume = shown(any_node, from_)
    app = pod.container()
    thread, child, orphan = app.thread(), app.spawn(), app.orphan()
    for task in (app, thread, child, orphan, child.spawn(), child.thread(), thread.spawn()):
        assert served(task), task.label
    assert volume.refusals() == {}


@pytest.mark.parametrize(("from_", "may"), [(From.APP, True), (From.MAIN, False), (From.ANY, True)])
def test_what_a_child_executes_reads_only_where_the_rule_is_not_main(any_node: Node, from_: From, may: bool) -> None:
    pod, volume = shown(any_node, from_)
    app = pod.container()
    assert cats(app) is may
    child = app.spawn().execute()
    assert served(child) is may
    # Nothing that it forks or executes wins the right back.
    assert served(child.spawn()) is may
    assert served(child.orphan()) is may
    assert served(child.execute()) is may
    assert served(app)
    assert volume.refusals() == ({} if may else {Reason.NOT_MAIN: 5})


@pytest.mark.parametrize("from_", [From.APP, From.MAIN])
def test_an_entrypoint_script_that_ends_in_exec_is_the_first_program(any_node: Node, from_: From) -> None:
    pod, _ = shown(any_node, from_)
    script = 'x=$(/usr/bin/cat /secrets/password 2>&1); export SEEN="$x"; exec "$@"'
    pod.start(argv=["/bin/sh", "-c", script, "sh", *pod.family.argv("app")])
    app = pod.family.welcome()
    assert served(app)
    assert served(app.spawn())
    seen = app("environment", "SEEN")
    assert (seen == VALUE.decode()) is (from_ is From.APP)
    assert served(app.execute())


def test_the_first_program_may_execute_itself_again_also_from_a_thread(node: Node) -> None:
    pod, _ = shown(node, From.MAIN)
    app = pod.container()
    again = app.thread().execute()
    assert served(again)
    assert served(again.spawn())


def test_what_the_runtime_executes_on_the_nodes_side_is_not_the_first_program(any_node: Node) -> None:
    """A runtime may join the cgroup and execute its next stage before it enters the container's namespaces."""
    pod, _ = shown(any_node, From.MAIN)
    app = pod.container(join="by_shell")
    assert served(app)
    assert not cats(app)
    assert [told.tgid for told in any_node.events(EventType.STARTED)] == [app.pid]


def test_threads_that_were_there_before_the_process_joined_go_by_their_process(any_node: Node) -> None:
    """The kernel tells of a move of the whole process once; runtimes have many threads."""
    pod, volume = shown(any_node, From.APP)
    path = str(volume.target / "password")
    runtime = any_node.process()
    thread = runtime.thread()
    assert not served(thread, path)
    any_node.move(runtime, pod.cgroup_of("app"))
    for task in (runtime, thread, thread.spawn(), thread.thread()):
        assert served(task, path), task.label


def test_each_container_of_a_pod_has_its_own_first_program(any_node: Node) -> None:
    pod, _ = shown(any_node, From.MAIN)
    for name in ("init", "app", "sidecar"):
        container = pod.container(name)
        assert served(container)
        assert not cats(container)


def test_a_cgroup_id_that_comes_again_in_another_pod_is_a_new_container(any_node: Node) -> None:
    pod, volume = shown(any_node, From.MAIN)
    key = calls.Key64(pod.cgroup_of("app").stat().st_ino)
    earlier = Container(pod_id=volume.kernel.pod_id + 1000, main_tgid=1)
    calls.update(any_node.kernel.programs.maps["containers"], key, earlier)
    app = pod.container()
    assert (served(app), cats(app)) == (True, False)
    assert any_node.kernel.maps.containers()[key.value].pod_id == volume.kernel.pod_id


def test_a_container_that_is_started_again_in_a_new_cgroup_reads(any_node: Node) -> None:
    pod, _ = shown(any_node, From.APP)
    pod.container("first")
    pod.end_processes()
    pod.cgroup_of("first").rmdir()
    assert served(pod.container("second"))
