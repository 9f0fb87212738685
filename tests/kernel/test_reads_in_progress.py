"""Reads that pause while values change under them, and how many of them a pod may have."""

from __future__ import annotations

import errno

from agent.kernel.layout import Limit, Reason
from agent.model import AccessRule, From
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume
from tests.kernel.harness.values import pattern, version

LONG = 48 * 1024


def shown(node: Node, **values: bytes) -> tuple[Actor, Volume]:
    pod = node.pod()
    volume = node.publish(pod, {"db": values})
    return pod.container(), volume


def test_a_read_that_has_begun_ends_with_what_it_began(node: Node) -> None:
    app, _ = shown(node, password=pattern(LONG, 1))
    fd = app.open("/secrets/password")
    first = app.read_fd(fd, 1, 1).data
    for seed in range(2, 8):
        node.rotate(password=pattern(LONG, seed))
    assert first + app.read_fd(fd, 4096).data == pattern(LONG, 1)
    assert app.read("/secrets/password").data == pattern(LONG, 7)


def test_a_paused_reader_of_a_version_that_is_gone_is_refused_and_never_gets_a_mixture(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    fd = app.open("/secrets/password")
    first = app.read_fd(fd, 16, 1)
    node.rotate(password=version(2, LONG))
    node.retire()
    rest = app.read_fd(fd)
    assert rest.errno == errno.E2BIG
    assert set(first.data + rest.data) == {1}
    assert len(first.data + rest.data) < LONG
    assert volume.refusals() == {Reason.LOST: 1}
    assert app.read("/secrets/password").data == version(2, LONG)


def test_a_version_that_is_about_to_be_wiped_is_not_read_any_more(node: Node) -> None:
    """Between the cut and the wiping its entries are still there, and chunks of it may be gone already."""
    app, volume = shown(node, password=version(1, LONG), user=b"alice")
    fd = app.open("/secrets/password")
    first = app.read_fd(fd, 16, 1)
    node.rotate(password=version(2, LONG))
    volume.set_of("db").oldest = 2
    rest = app.read_fd(fd)
    assert (set(first.data + rest.data), rest.errno) == ({1}, errno.E2BIG)
    assert volume.refusals() == {Reason.LOST: 1}


def test_a_reader_paused_over_more_flips_than_are_kept_gets_its_own_version_or_a_refusal(node: Node) -> None:
    app, _ = shown(node, password=version(1, LONG))
    fd = app.open("/secrets/password")
    first = app.read_fd(fd, 16, 1)
    for number in range(2, 80):
        node.rotate(password=version(number, LONG))
    node.retire()
    rest = app.read_fd(fd)
    assert (set(first.data + rest.data), rest.errno) == ({1}, errno.E2BIG)
    assert app.read("/secrets/password").data == version(79, LONG)


def test_a_value_of_one_chunk_read_byte_by_byte_over_a_flip_is_whole(node: Node) -> None:
    for size in (20, Limit.CHUNK_BYTES - 1, Limit.CHUNK_BYTES):
        app, volume = shown(node, password=version(1, size), beside=pattern(LONG))
        app("attempt", "sched_setaffinity", 0, [0])
        fd = app.open("/secrets/password")
        first = app.read_fd(fd, 1, 1).data
        # What this CPU read last is not this file any more.
        assert app.read("/secrets/beside").data == pattern(LONG)
        node.rotate(password=version(2, size))
        node.retire()
        rest = app.read_fd(fd, 1)
        # A whole chunk cannot be told from the first of many, so its end asks for the version once more.
        assert first + rest.data == version(1, size)
        assert rest.errno == 0
        node.end(volume)


def test_more_unfinished_long_reads_than_are_remembered_are_whole_or_refused(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    count = Limit.SESSIONS + 40
    fds = [app.open("/secrets/password") for _ in range(count)]
    parts = [app.read_fd(fd, 1, 1).data for fd in fds]
    node.rotate(password=version(2, LONG))
    rests = [app.read_fd(fd) for fd in fds]
    for part, rest in zip(parts, rests, strict=True):
        assert set(part + rest.data) == {1}
        assert rest.errno == (0 if len(part + rest.data) == LONG else errno.E2BIG)
    lost = sum(rest.errno == errno.E2BIG for rest in rests)
    assert 0 < lost <= count - Limit.SESSIONS // 2
    assert volume.refusals() == {Reason.LOST: lost}


def test_one_pod_cannot_evict_the_unfinished_reads_of_another(node: Node) -> None:
    app, volume = shown(node, password=pattern(LONG))
    greedy, _ = shown(node, password=b"known already")
    fd = app.open("/secrets/password")
    first = app.read_fd(fd, 1, 1).data
    for held in [greedy.open("/secrets/password") for _ in range(200)]:
        greedy.read_fd(held, 1, 1)
    assert first + app.read_fd(fd).data == pattern(LONG)
    assert volume.refusals() == {}


def test_too_many_open_files_of_a_volume_are_refused_and_far_too_many_end_the_reader(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}}, open_files=8)
    app = pod.container()
    greedy = app.spawn()
    assert greedy("open_many", "/secrets/password", 20) == {"served": 8, "refused": 12}
    assert app.read("/secrets/password").errno == errno.E2BIG
    assert volume.refusals() == {Reason.OPEN_FILES: 13}
    greedy("close_many")
    assert app.read("/secrets/password").data == b"hunter2"
    greedy.begin("open_many", "/secrets/password", 8 * Limit.KILL_FACTOR + 8)
    assert greedy.is_gone()
    assert app.read("/secrets/password").data == b"hunter2"


def test_who_holds_few_files_is_not_killed_for_what_another_holds(node: Node) -> None:
    """Else a shell that may not read could have the application killed, by opening files and never reading them."""
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}}, AccessRule(From.APP), open_files=80)
    app = pod.container()
    shell = pod.exec(app)
    held = [shell.open("/secrets/password") for _ in range(80 * Limit.KILL_FACTOR + 8)]
    assert app.read("/secrets/password").errno == errno.E2BIG
    shell.begin("read_fd", held[0])
    assert shell.is_gone()
    assert app.read("/secrets/password").data == b"hunter2"
    assert volume.refusals() == {Reason.OPEN_FILES: 2}


def test_open_files_of_one_pod_are_not_counted_for_another(node: Node) -> None:
    first, second = node.pod(), node.pod()
    node.publish(first, {"db": {"password": b"hunter2"}}, open_files=4)
    node.publish(second, {"db": {"password": b"hunter2"}}, open_files=4)
    assert first.container()("open_many", "/secrets/password", 10)["refused"] == 6
    assert second.container().read("/secrets/password").data == b"hunter2"
