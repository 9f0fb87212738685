"""Values that change: what readers see of a version, which of them belong together, who is told."""

from __future__ import annotations

from agent.kernel.programs import Tuning
from agent.model import SecretVersion
from tests.kernel.conftest import Open
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume, ref
from tests.kernel.harness.values import version

LONG = 48 * 1024
IN_MODIFY, IN_MOVED_TO = 0x2, 0x80


def flip_only(node: Node, **values: bytes) -> None:
    """A flip of which no volume has been told yet."""
    node.values[ref("db")].update(values)
    following = SecretVersion(ref("db"), dict(node.values[ref("db")]))

    async def flip() -> None:
        for volume in node.volumes:
            node.kernel.engine._need_steps(volume.state, map(len, following.values.values()))
        node.kernel.secrets.rotate(following)

    node.run(flip())


def shown(node: Node, **values: bytes) -> tuple[Actor, Volume]:
    pod = node.pod()
    volume = node.publish(pod, {"db": values})
    return pod.container(), volume


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
