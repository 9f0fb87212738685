"""What the kernel tells of its decisions, and how it keeps from telling too much."""

from __future__ import annotations

import errno
from pathlib import Path

from agent.kernel.layout import ActionCode, EventType, Reason
from agent.kernel.programs import Tuning
from agent.model import AccessRule, Action, From
from tests.kernel.conftest import Open
from tests.kernel.harness.family import PYTHON
from tests.kernel.harness.node import Node
from tests.kernel.harness.pods import removed
from tests.kernel.harness.waiting import wait_until


def test_the_first_read_of_each_version_of_each_file_is_told_once(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"user": b"alice", "password": b"one"}})
    app = pod.container()
    for _ in range(3):
        app.read("/secrets/user")
    node.rotate(password=b"two")
    for _ in range(3):
        app.read("/secrets/password")
        app.read("/secrets/user")
    told = node.events(EventType.SERVED)
    items = {key: volume.kernel.sets[0].items[key] for key in ("user", "password")}
    # The first read of the password still belongs to the version whose user was read.
    expected = [("user", 1), ("password", 1), ("user", 2), ("password", 2)]
    assert [(event.item, event.generation) for event in told] == [(items[key], number) for key, number in expected]
    assert {(event.grant_id, event.tgid) for event in told} == {(volume.kernel.grant_id, app.pid)}
    assert (volume.grant.served, volume.grant.served_bytes) == (9, 6 * 5 + 3 * 3)


def test_a_refusal_names_the_process_and_the_reason(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}}, AccessRule(From.APP, (), Action.KILL))
    shell = pod.exec(pod.container())
    shell.begin("read", "/secrets/password")
    assert shell.is_gone()
    (told,) = node.events(EventType.REFUSED)
    assert (told.reason, told.action, told.tgid) == (Reason.ENTERED, ActionCode.KILL, shell.pid)
    assert (told.grant_id, told.comm, told.suppressed) == (volume.kernel.grant_id, Path(PYTHON).name[:15], 0)


def test_refusals_are_limited_for_each_grant_and_the_rest_is_counted(open_node: Open) -> None:
    node = open_node(Tuning(events_per_second=5))
    pod, other = node.pod(), node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}})
    beside = node.publish(other, {"db": {"password": b"hunter2"}})
    host = node.process()
    path = str(volume.target / "password")
    for _ in range(20):
        assert host.read(path).errno == errno.E2BIG
    first = [event for event in node.events(EventType.REFUSED) if event.grant_id == volume.kernel.grant_id]
    suppressed = volume.grant.events_suppressed
    assert (len(first) <= 10, len(first) + suppressed) == (True, 20)
    assert volume.refusals() == {Reason.POD: 20}
    host.read(str(beside.target / "password"))
    assert node.events(EventType.REFUSED)[-1].grant_id == beside.kernel.grant_id

    def told_again() -> bool:
        host.read(path)
        return any(event.suppressed for event in node.events(EventType.REFUSED))

    wait_until(told_again, "the next second's refusal, which tells how many were not told")
    told = [event for event in node.events(EventType.REFUSED) if event.grant_id == volume.kernel.grant_id]
    assert len(told) + sum(event.suppressed for event in told) >= 21


def test_events_that_found_no_room_are_counted(open_node: Open) -> None:
    node = open_node(Tuning(events_per_second=1_000_000))
    volume = node.publish(node.pod(), {"db": {"password": b"hunter2"}})
    host = node.process()
    assert host("hammer_refused", str(volume.target / "password"), 9000) == 9000
    told = len(node.events(EventType.REFUSED))
    lost = node.kernel.maps.counters.events_lost
    assert (lost > 0, told + lost) == (True, 9000)
    assert volume.refusals() == {Reason.POD: 9000}
    # What comes after there is room again is told again.
    host.read(str(volume.target / "password"))
    assert len(node.events(EventType.REFUSED)) == told + 1


def test_a_container_that_starts_is_told_once_with_its_first_program(any_node: Node) -> None:
    pod = any_node.pod()
    volume = any_node.publish(pod, {"db": {"password": b"hunter2"}})
    app = pod.container()
    side = pod.container("side")
    app.run("/usr/bin/true")
    pod.exec(app)
    app.execute()
    told = any_node.events(EventType.STARTED)
    assert [(event.tgid, event.pod_id) for event in told] == [(task.pid, volume.kernel.pod_id) for task in (app, side)]
    assert sorted(any_node.kernel.pods.main_tasks()[volume.kernel.pod_id]) == sorted([(app.pid, 0), (side.pid, 0)])


def test_a_container_is_forgotten_with_its_cgroup_and_the_pod_with_its_last_volume(any_node: Node) -> None:
    maps = any_node.kernel.maps
    pod = any_node.pod()
    first = any_node.publish(pod, {"db": {"password": b"hunter2"}})
    second = any_node.publish(pod, {"other": {"token": b"t"}}, at="/other")
    pod.container()
    pod.container("side")
    assert len(maps.containers()) == 2
    pod.end_processes()
    wait_until(lambda: removed(pod.cgroup / "app"), "the container's cgroup is gone")
    assert len(maps.containers()) == 1
    any_node.end(first)
    assert (len(maps.pods()), len(maps.containers())) == (1, 1)
    any_node.end(second)
    assert (len(maps.pods()), len(maps.containers())) == (0, 0)
