"""Who may read: the rule of the interceptor against every way in which a task comes into a pod."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.kernel import calls
from agent.kernel.layout import Container, EventType, Reason
from agent.model import AccessRule, Action, From
from tests.kernel.conftest import Open
from tests.kernel.harness.family import PYTHON, Actor
from tests.kernel.harness.node import Node, Volume
from tests.kernel.harness.pods import Pod
from tests.kernel.harness.waiting import wait_until

FILE = "/secrets/password"
VALUE = b"hunter2"
CAT = "/usr/bin/cat"


def served(actor: Actor, path: str = FILE) -> bool:
    """Whether the actor gets the secret; it gets all of it, or nothing and E2BIG."""
    found = actor.read(path)
    assert (found.data, found.errno) in ((VALUE, 0), (b"", errno.E2BIG))
    return found.errno == 0


def shown(node: Node, from_: From, *binaries: str, action: Action = Action.DENY) -> tuple[Pod, Volume]:
    pod = node.pod()
    return pod, node.publish(pod, {"db": {"password": VALUE}}, AccessRule(from_, binaries, action))


def state_of(pid: int) -> str:
    """The letter that /proc has for a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def cats(actor: Actor, path: str = FILE) -> bool:
    """Whether `cat`, executed by a child of the actor, gets the secret."""
    code, out, _ = actor.run(CAT, path)
    assert (code, out) in ((0, VALUE), (1, b""))
    return code == 0


# Descendants of a container's first task


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


# Who comes from outside


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


# Who is not of the pod


@pytest.mark.parametrize("from_", list(From))
def test_other_pods_and_the_nodes_processes_are_refused_whatever_the_rule(any_node: Node, from_: From) -> None:
    pod, volume = shown(any_node, from_, PYTHON)
    pod.start()
    any_node.handle_starts()
    pod.family.welcome()
    other = any_node.pod()
    other.volumes.append((volume.target, "/secrets"))
    neighbour = other.container()
    host = any_node.process()
    assert not served(neighbour)
    assert not served(neighbour.spawn())
    assert not served(host, str(volume.target / "password"))
    assert volume.refusals() == {Reason.POD: 3}


def test_two_pods_with_the_same_secret_read_only_through_their_own_volume(any_node: Node) -> None:
    one, first = shown(any_node, From.APP)
    two, second = shown(any_node, From.APP)
    one.volumes.append((second.target, "/stolen"))
    thief = one.container()
    assert served(thief)
    assert not served(thief, "/stolen/password")
    assert served(two.container())
    assert (first.refusals(), second.refusals()) == ({}, {Reason.POD: 1})


# Pid namespaces that are not the container's own


@pytest.mark.parametrize("from_", [From.APP, From.MAIN])
def test_with_a_shared_pid_namespace_the_rule_holds(any_node: Node, from_: From) -> None:
    pod, _ = shown(any_node, from_)
    pause = pod.container("pause")
    app = pod.container(pid_ns=pause)
    assert app.inner_pid != 1
    shell = pod.exec(app)
    assert (served(app), served(app.spawn()), cats(app)) == (True, True, from_ is From.APP)
    assert (served(shell), served(shell.orphan())) == (False, False)


@pytest.mark.parametrize("from_", [From.APP, From.MAIN])
def test_with_the_hosts_pid_namespace_the_rule_holds(any_node: Node, from_: From) -> None:
    pod, _ = shown(any_node, from_)
    app = pod.container(host_pid=True)
    assert app.inner_pid == app.pid
    shell = pod.exec(app)
    assert (served(app), served(app.orphan()), cats(app)) == (True, True, from_ is From.APP)
    assert (served(shell), served(shell.orphan())) == (False, False)


# Binaries


def test_a_named_binary_reads_under_app_also_from_outside(any_node: Node) -> None:
    """How an exec probe or a lifecycle hook is allowed."""
    pod, volume = shown(any_node, From.APP, CAT)
    app = pod.container()
    any_node.handle_starts()
    assert pod.exec_program(app, CAT, FILE) == (0, VALUE)
    assert pod.exec_program(app, "/usr/bin/head", FILE)[0] != 0
    assert not served(pod.exec(app))
    assert cats(pod.exec(app))
    assert volume.refusals() == {Reason.ENTERED: 2}


def test_a_named_binary_reads_under_main_when_a_child_executes_it(node: Node) -> None:
    pod, _ = shown(node, From.MAIN, CAT)
    app = pod.container()
    node.handle_starts()
    assert cats(app)
    assert app.run("/usr/bin/head", FILE)[0] != 0


def test_only_named_binaries_read_where_the_rule_says_so(any_node: Node) -> None:
    pod, volume = shown(any_node, From.BINARIES, CAT)
    pod.start()
    any_node.handle_starts()
    app = pod.family.welcome()
    assert not served(app)
    assert cats(app)
    assert pod.exec_program(app, CAT, FILE) == (0, VALUE)
    assert volume.refusals() == {Reason.BINARY: 1}


def test_a_container_waits_at_its_first_program_until_its_binaries_are_known(any_node: Node) -> None:
    """No read is refused for having come before the agent."""
    pod, volume = shown(any_node, From.BINARIES, PYTHON)
    pod.start()
    told = any_node.wait_for_event(EventType.STARTED)
    wait_until(lambda: state_of(told.tgid) == "T", "the container is stopped")
    any_node.handle_starts()
    app = pod.family.welcome()
    assert served(app)
    assert volume.refusals() == {}


@pytest.mark.parametrize("from_", [From.APP, From.BINARIES])
def test_binaries_are_found_on_an_overlay_too(any_node: Node, from_: From, tmp_path: Path) -> None:
    """stat() on overlayfs shows other numbers than the kernel keeps of what executes."""
    lower, upper, work = (tmp_path / name for name in ("lower", "upper", "work"))
    for folder in (lower, upper, work):
        folder.mkdir()
    (lower / "reader").write_bytes(Path(CAT).resolve().read_bytes())
    (lower / "other").write_bytes(Path(CAT).resolve().read_bytes())
    for name in ("reader", "other"):
        (lower / name).chmod(0o755)
    pod, _ = shown(any_node, from_, "/reader")
    pod.start(overlay=f"lowerdir={lower},upperdir={upper},workdir={work}")
    any_node.handle_starts()
    app = pod.family.welcome()
    shell = pod.exec(app)
    assert shell.run("/reader", FILE)[:2] == (0, VALUE)
    assert shell.run("/other", FILE)[0] == 1


# Actions


def test_kill_ends_the_reader_and_gives_it_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP, action=Action.KILL)
    app = pod.container()
    shell = pod.exec(app)
    shell.begin("read", FILE)
    assert shell.is_gone()
    assert pod.exec_program(app, CAT, FILE)[1] == b""
    assert served(app)
    assert volume.refusals() == {Reason.ENTERED: 2}


def test_kill_never_ends_who_is_not_of_the_pod(any_node: Node) -> None:
    """A node's backup or a neighbour is refused, not killed."""
    _, volume = shown(any_node, From.APP, action=Action.KILL)
    host = any_node.process()
    assert not served(host, str(volume.target / "password"))
    assert host("attempt", "getpid") > 0


def test_audit_serves_and_tells(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP, action=Action.AUDIT)
    shell = pod.exec(pod.container())
    assert served(shell)
    told = any_node.events(EventType.AUDITED)
    assert [(event.reason, event.tgid) for event in told] == [(Reason.ENTERED, shell.pid)]
    assert (volume.refusals(), volume.grant.audited) == ({}, 1)


def test_audit_does_not_serve_other_pods(any_node: Node) -> None:
    _, volume = shown(any_node, From.APP, action=Action.AUDIT)
    assert not served(any_node.process(), str(volume.target / "password"))


# Pods without a cgroup of their own


@pytest.mark.parametrize("from_", [From.APP, From.MAIN, From.ANY])
def test_without_a_pod_cgroup_namespaces_are_the_identity(open_node: Open, from_: From) -> None:
    node = open_node(without_cgroups=True)
    with shared_folder(node.targets):
        pod = node.plain_pod()
        first = pod.container()
        volume = node.publish(pod, {"db": {"password": VALUE}}, AccessRule(from_), first_pid=first.pid)
        path = str(volume.target / "password")
        assert served(first, path)
        assert served(first.spawn(), path)
        assert served(first.orphan(), path)
        assert cats(first, path) is (from_ is not From.MAIN)
        assert served(pod.exec(first), path) is (from_ is From.ANY)
        for only in ("pid", "mnt"):
            assert not served(pod.exec(first, only), path), only
        assert not served(node.process(), path)
        assert not served(node.plain_pod().container(), path)
        node.end(volume)


@contextmanager
def shared_folder(folder: Path) -> Iterator[None]:
    """A folder from which mounts come through to other mount namespaces, as kubelet's do."""
    subprocess.run(["mount", "-t", "tmpfs", "--make-shared", "tests", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
