"""Other pods and the node, and pods whose namespaces are not their own or all that they have."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.kernel.layout import Reason
from agent.model import AccessRule, From
from tests.kernel.conftest import Open
from tests.kernel.harness.family import PYTHON
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import VALUE, cats, served, shown


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
