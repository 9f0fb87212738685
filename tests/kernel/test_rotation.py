"""Values that change under their readers: each read is of one version, and each task's set of files too."""

from __future__ import annotations

import errno

from agent.kernel.layout import Limit, Reason
from agent.kernel.programs import Tuning
from agent.model import SecretVersion
from tests.kernel.conftest import Open
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume, ref
from tests.kernel.harness.values import pattern, version

LONG = 48 * 1024
IN_MODIFY, IN_MOVED_TO = 0x2, 0x80


def flip_only(node: Node, **values: bytes) -> None:
    """A flip of which no volume has been told yet."""
    node.values[ref("db")].update(values)
    following = SecretVersion(ref("db"), dict(node.values[ref("db")]))

    async def flip() -> None:
        for volume in node.volumes:
            node.kernel.engine._need_steps(volume.state, list(values), following)
        node.kernel.secrets.rotate(following)

    node.run(flip())


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


def test_two_files_that_a_task_reads_are_of_one_version(node: Node) -> None:
    app, _ = shown(node, user=b"alice-1", password=b"secret-1")
    assert app.read("/secrets/user").data == b"alice-1"
    node.rotate(user=b"alice-2", password=b"secret-2")
    assert app.read("/secrets/password").data == b"secret-1"
    assert app.read("/secrets/user").data == b"alice-2"
    assert app.read("/secrets/password").data == b"secret-2"


def test_reading_the_same_file_again_begins_anew(node: Node) -> None:
    app, _ = shown(node, user=b"alice-1", password=b"secret-1")
    for number in range(2, 6):
        node.rotate(user=b"alice-%d" % number, password=b"secret-%d" % number)
        assert app.read("/secrets/user").data == b"alice-%d" % number


def test_a_task_keeps_its_version_of_each_of_four_secrets(node: Node) -> None:
    pod = node.pod()
    names = ["a", "b", "c", "d"]
    node.publish(pod, {name: {f"{name}1": b"old", f"{name}2": b"old"} for name in names})
    app = pod.container()
    for name in names:
        assert app.read(f"/secrets/{name}1").data == b"old"
    for name in names:
        node.rotate(name, **{f"{name}1": b"new", f"{name}2": b"new"})
    assert [app.read(f"/secrets/{name}2").data for name in names] == [b"old"] * 4
    assert [app.read(f"/secrets/{name}2").data for name in names] == [b"new"] * 4


def test_each_task_has_its_own_round(node: Node) -> None:
    app, _ = shown(node, user=b"alice-1", password=b"secret-1")
    child, thread = app.spawn(), app.thread()
    assert app.read("/secrets/user").data == b"alice-1"
    node.rotate(user=b"alice-2", password=b"secret-2")
    assert child.read("/secrets/password").data == b"secret-2"
    assert thread.read("/secrets/password").data == b"secret-2"
    assert app.read("/secrets/password").data == b"secret-1"


def test_after_its_grace_a_task_reads_the_current_version(open_node: Open) -> None:
    node = open_node(Tuning(grace_ns=1))
    app, _ = shown(node, user=b"alice-1", password=b"secret-1")
    assert app.read("/secrets/user").data == b"alice-1"
    node.rotate(user=b"alice-2", password=b"secret-2")
    assert app.read("/secrets/password").data == b"secret-2"


def test_a_round_ends_when_its_version_is_retired(node: Node) -> None:
    app, volume = shown(node, user=b"alice-1", password=b"secret-1")
    assert app.read("/secrets/user").data == b"alice-1"
    node.rotate(user=b"alice-2", password=b"secret-2")
    node.retire()
    assert app.read("/secrets/password").data == b"secret-2"
    assert volume.refusals() == {}


def test_growing_and_shrinking_under_readers_keeps_the_inode_and_every_read_whole(node: Node) -> None:
    app, _ = shown(node, password=version(1, 100))
    path = "/secrets/password"
    inode = app("stat", path)["ino"]
    for number, size in enumerate((100, 500_000, 3, 40_000, 1 << 20, 0, 100), start=2):
        held = app.open(path)
        app.read_fd(held, 1, 1)
        before = node.values[ref("db")]["password"]
        node.rotate(password=version(number, size))
        rest = app.read_fd(held)
        assert (before[:1] + rest.data == before, rest.errno) == (True, 0)
        seen = app("stat", path)
        assert (seen["ino"], seen["size"]) == (inode, size)
        assert app.read(path).data == version(number, size)


def test_a_reader_that_trusts_st_size_gets_a_whole_version_also_before_the_size_is_told(node: Node) -> None:
    """A flip comes before the sizes: meanwhile the file serves the version whose size it shows."""
    app, volume = shown(node, password=version(1, 5000))
    flip_only(node, password=version(2, 100))
    found = app("stat_then_read", "/secrets/password", 1)
    assert (found["size"], bytes.fromhex(found["data"])) == (5000, version(1, 5000))
    flip_only(node, password=version(3, 9000))
    found = app("stat_then_read", "/secrets/password", 1)
    assert (found["size"], bytes.fromhex(found["data"])) == (5000, version(1, 5000))
    node.kernel.engine.touch(volume.state, ref("db"), {"password"})
    found = app("stat_then_read", "/secrets/password", 1)
    assert (found["size"], bytes.fromhex(found["data"])) == (9000, version(3, 9000))


def test_a_flip_to_a_value_of_the_same_size_is_seen_at_once(node: Node) -> None:
    app, _ = shown(node, password=version(1, 5000))
    flip_only(node, password=version(2, 5000))
    assert app.read("/secrets/password").data == version(2, 5000)


def test_watchers_of_the_file_and_of_the_folder_are_told_once(node: Node) -> None:
    app, _ = shown(node, password=b"one", user=b"alice")
    file, other = app("watch", "/secrets/password", IN_MODIFY), app("watch", "/secrets/user", IN_MODIFY)
    folder = app("watch", "/secrets", IN_MOVED_TO)
    before = app("stat", "/secrets/password")["mtime_ns"]
    node.rotate(password=b"two")
    assert app("watched", file) == [[IN_MODIFY, ""]]
    assert app("watched", other) == []
    assert app("watched", folder) == [[IN_MOVED_TO, "..data"]]
    assert app("stat", "/secrets/password")["mtime_ns"] > before
    assert app.read("/secrets/password").data == b"two"


def test_readers_under_rotations_see_no_torn_short_or_mixed_value(open_node: Open) -> None:
    """Four readers, two files of 48 KB each; what they read is of one version, whichever it is."""
    node = open_node()
    pod = node.pod()
    node.publish(pod, {"db": {"a": version(0, LONG), "b": version(0, LONG)}})
    app = pod.container()
    readers = [app, *(app.spawn() for _ in range(3))]
    for reader in readers:
        reader.begin("hammer", ["/secrets/a", "/secrets/b"], 59)
    for number in range(1, 60):
        size = LONG + number * 997
        node.rotate(a=version(number, size), b=version(number, size))
    answers = [reader.answer() for reader in readers]
    assert [answer["problems"] for answer in answers] == [[]] * 4
    assert max(len(answer["seen"]) for answer in answers) > 3


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


def test_open_files_of_one_pod_are_not_counted_for_another(node: Node) -> None:
    first, second = node.pod(), node.pod()
    node.publish(first, {"db": {"password": b"hunter2"}}, open_files=4)
    node.publish(second, {"db": {"password": b"hunter2"}}, open_files=4)
    assert first.container()("open_many", "/secrets/password", 10)["refused"] == 6
    assert second.container().read("/secrets/password").data == b"hunter2"
