"""A pod whose right to its volume ends while it runs: closed in the kernel at once, or left with its last values."""

from __future__ import annotations

import errno
from typing import Any

from agent.kernel.layout import ActionCode, EventType, Limit, Reason
from agent.model import AccessRule, Action, From, OnUnavailable
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume
from tests.kernel.harness.values import pattern, version

CHUNK = int(Limit.CHUNK_BYTES)
LONG = 48 * 1024


def shown(node: Node, rule: AccessRule | None = None, **values: bytes) -> tuple[Actor, Volume]:
    pod = node.pod()
    volume = node.publish(pod, {"db": values}, rule or AccessRule(From.ANY))
    return pod.container(), volume


def call(node: Node, method: str, volume: Volume, *more: Any) -> Any:
    """A method of the engine, on the node's loop."""

    async def work() -> Any:
        return getattr(node.kernel.engine, method)(volume.state, *more)

    return node.run(work())


def kept(node: Node, volume: Volume) -> None:
    """The volume stays with what it shows now."""
    volume.state = call(node, "keep", volume)
    call(node, "apply", volume)


def followed(node: Node, volume: Volume) -> None:
    """The volume follows rotations again."""
    volume.state = call(node, "follow", volume, {})
    call(node, "apply", volume)


# Closed


def test_a_closed_volume_is_read_by_nobody_and_one_that_was_reopened_by_all(node: Node) -> None:
    app, volume = shown(node, password=b"hunter2")
    beside, _ = shown(node, password=b"hunter2")
    assert app.read("/secrets/password").data == b"hunter2"
    call(node, "close", volume)
    found = app.read("/secrets/password")
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert beside.read("/secrets/password").data == b"hunter2"
    assert call(node, "is_closed", volume)
    call(node, "reopen", volume, {})
    assert app.read("/secrets/password").data == b"hunter2"
    assert volume.refusals() == {Reason.ENDED: 1}


def test_the_end_of_a_right_is_looked_at_before_the_access_rule(node: Node) -> None:
    for action in (Action.AUDIT, Action.KILL):
        pod = node.pod()
        volume = node.publish(pod, {"db": {"password": b"hunter2"}}, AccessRule(From.APP, (), action))
        app = pod.container()
        shell = pod.exec(app) if action is Action.AUDIT else app
        call(node, "close", volume)
        assert shell.read("/secrets/password").errno == errno.E2BIG
        assert volume.refusals() == {Reason.ENDED: 1}
        assert not node.process(pod.cgroup).read(str(volume.target / "password")).data
    told = node.events(EventType.REFUSED)[0]
    assert (told.reason, told.action) == (Reason.ENDED, ActionCode.DENY)


def test_a_file_that_is_open_half_read_gives_no_more_than_the_kernel_had_buffered(node: Node) -> None:
    app, volume = shown(node, password=pattern(LONG))
    fresh, half = app.open("/secrets/password"), app.open("/secrets/password")
    first = app.read_fd(half, 16, 1).data
    call(node, "close", volume)
    rest = app.read_fd(half)
    assert rest.errno == errno.E2BIG
    assert (first + rest.data) == pattern(LONG)[: len(first + rest.data)]
    assert len(first + rest.data) <= CHUNK
    nothing = app.read_fd(fresh)
    assert (nothing.data, nothing.errno) == (b"", errno.E2BIG)


def test_a_reading_loop_meets_whole_values_until_the_end_and_refusals_from_then_on(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    loop = app.spawn()
    loop.begin("hammer", ["/secrets/password"], 2)
    while volume.grant.served < 100:
        pass
    call(node, "close", volume)
    served = volume.grant.served
    found = loop.answer()
    assert set(found["problems"]) == {f"errno {errno.E2BIG}", "of versions []"}
    assert found["seen"] == [1]
    # What had begun before the store may be counted after it: one read on each processor at most.
    assert volume.grant.served - served <= 2
    assert volume.refusals()[Reason.ENDED] >= 10
    call(node, "reopen", volume, {})
    assert app.read("/secrets/password").data == version(1, LONG)


def test_a_volume_shows_after_its_reopening_what_rotated_meanwhile(node: Node) -> None:
    app, volume = shown(node, password=b"short")
    other, _ = shown(node, password=b"short")
    call(node, "close", volume)
    size = app("stat", "/secrets/password")["size"]
    node.volumes.remove(volume)
    node.rotate(password=pattern(LONG, 2))
    node.volumes.append(volume)
    assert other.read("/secrets/password").data == pattern(LONG, 2)
    assert app("stat", "/secrets/password")["size"] == size, "not even the size of a new value is told"
    call(node, "reopen", volume, {})
    found = app("stat_then_read", "/secrets/password", 10)
    assert (found["size"], bytes.fromhex(found["data"])) == (LONG, pattern(LONG, 2))


# Kept


def test_a_volume_that_keeps_its_values_does_not_see_those_that_others_get(node: Node) -> None:
    app, volume = shown(node, user=b"alice", password=version(1, LONG))
    other, _ = shown(node, user=b"alice", password=version(1, LONG))
    kept(node, volume)
    node.volumes.remove(volume)
    for number in (2, 3):
        node.rotate(user=b"bob", password=version(number, LONG))
        node.retire()
    node.volumes.append(volume)
    assert other.read("/secrets/password").data == version(3, LONG)
    assert app.read("/secrets/password").data == version(1, LONG)
    assert app.read("/secrets/user").data == b"alice"
    assert volume.refusals() == {}
    followed(node, volume)
    assert app.read("/secrets/password").data == version(3, LONG)
    assert app("stat", "/secrets/user")["size"] == 3
    node.retire()
    assert node.kernel.maps.sets.used == 1
    assert len(node.kernel.maps.files()) == 4
    assert node.chunks() == 1 + -(-LONG // CHUNK)


def test_reads_under_way_and_open_files_go_on_while_a_volume_is_left_behind_and_taken_up_again(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    other, _ = shown(node, password=version(1, LONG))
    fd = app.open("/secrets/password")
    parts = [app.read_fd(fd, 3000, 1).data]
    kept(node, volume)
    node.retire()
    parts.append(app.read_fd(fd, 3000, 1).data)
    node.volumes.remove(volume)
    node.rotate(password=version(2, LONG))
    parts.append(app.read_fd(fd).data)
    assert b"".join(parts) == version(1, LONG)
    held = app.open("/secrets/password")
    first = app.read_fd(held, 1, 1).data
    followed(node, volume)
    node.retire()
    node.volumes.append(volume)
    rest = app.read_fd(held)
    # Its version is gone by now: an end in an error, and never a mixture.
    assert (set(first + rest.data), rest.errno) == ({1}, errno.E2BIG)
    assert app.read("/secrets/password").data == other.read("/secrets/password").data == version(2, LONG)


def test_a_reading_loop_never_meets_a_torn_value_or_an_error_while_its_volume_is_left_behind_and_taken_up(
    node: Node,
) -> None:
    app, volume = shown(node, user=version(1, 100), password=version(1, LONG))
    shown(node, user=version(1, 100), password=version(1, LONG))
    loop = app.spawn()
    loop.begin("hammer", ["/secrets/user", "/secrets/password"], 9)
    for number in range(2, 9):
        before = volume.grant.served
        while volume.grant.served < before + 20:
            pass
        kept(node, volume)
        node.volumes.remove(volume)
        node.rotate(user=version(number, 100), password=version(number, LONG))
        node.volumes.append(volume)
        before = volume.grant.served
        while volume.grant.served < before + 20:
            pass
        followed(node, volume)
    node.rotate(user=version(9, 100), password=version(9, LONG))
    found = loop.answer()
    assert [problem for problem in found["problems"] if not problem.startswith("of versions")] == []
    assert {1, 9} <= set(found["seen"])


def test_a_key_that_only_those_without_a_right_show_may_leave_the_source(node: Node) -> None:
    app, volume = shown(node, user=b"alice", password=b"one")
    other, _ = shown(node, password=b"one")
    call(node, "close", volume)
    node.volumes.remove(volume)
    del node.values[next(iter(node.values))]["user"]
    assert node.rotate(password=b"two") == {"password"}
    node.volumes.append(volume)
    assert other.read("/secrets/password").data == b"two"
    assert app.read("/secrets/user").errno == errno.E2BIG


def test_what_was_saved_and_not_applied_is_what_readers_meet_after_a_restart(node: Node) -> None:
    """An agent that dies between the two has promised that no later version is seen."""
    app, volume = shown(node, password=version(1, LONG))
    other, _ = shown(node, password=version(1, LONG))
    volume.state = call(node, "keep", volume)
    assert volume.grant.files_id != volume.kernel.files_id
    call(node, "adopt", volume)
    node.volumes.remove(volume)
    node.rotate(password=version(2, LONG))
    node.volumes.append(volume)
    assert app.read("/secrets/password").data == version(1, LONG)
    assert other.read("/secrets/password").data == version(2, LONG)
    for inode in volume.kernel.inodes:
        node.kernel.maps.drop_file(volume.kernel.grant_id, inode)  # as adoption sweeps them


def test_what_a_volume_kept_is_freed_with_it(node: Node) -> None:
    _, volume = shown(node, password=pattern(LONG))
    kept(node, volume)
    node.end(volume)
    maps = node.kernel.maps
    assert (node.chunks(), maps.sets.used, maps.grants.used, maps.files()) == (0, 0, 0, [])


def test_the_policy_of_a_plan_is_to_keep_where_nothing_is_said(node: Node) -> None:
    _, volume = shown(node, password=b"hunter2")
    assert volume.state.plan.on_unavailable is OnUnavailable.KEEP
