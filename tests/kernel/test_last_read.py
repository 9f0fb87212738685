"""The kernel notes of each file which version was last read to its end: so an old one can be told to be out of use."""

from __future__ import annotations

import errno
from typing import Any

from agent.kernel.layout import Limit
from agent.model import Action, FilePlan, FileRead, From, SecretRef, VolumePlan
from agent.secrets.readers import ReadBook, Standing
from tests.kernel.harness import rules
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume, ref
from tests.kernel.harness.rules import FILE
from tests.kernel.harness.values import pattern, version

CHUNK = int(Limit.CHUNK_BYTES)
LONG = 48 * 1024


def shown(node: Node, **values: bytes) -> tuple[Actor, Volume]:
    pod = node.pod()
    volume = node.publish(pod, {"db": values})
    return pod.container(), volume


def noted(volume: Volume) -> dict[str, int]:
    """The generation last read of each file, through the maps' own accessor."""
    inodes, files = volume.kernel.inodes, volume.state.plan.files
    found = volume.node.kernel.maps.read_generations(volume.grant.files_id, inodes)
    return {file.name: found[inode] for file, inode in zip(files, inodes, strict=True)}


def told(volume: Volume, name: str = "db") -> dict[str, FileRead]:
    """What the engine says of each file's readers."""
    return {file.name: read for file, read in volume.node.kernel.engine.reads(volume.state, ref(name))}


def call(node: Node, method: str, volume: Volume, *more: Any) -> Any:
    """A method of the engine, on the node's loop."""

    async def work() -> Any:
        return getattr(node.kernel.engine, method)(volume.state, *more)

    return node.run(work())


def test_a_file_that_nobody_read_has_no_version_and_a_read_one_has_that_version(node: Node) -> None:
    app, volume = shown(node, password=b"one", user=b"alice")
    assert noted(volume) == {"password": 0, "user": 0}
    app.read("/secrets/password")
    assert noted(volume) == {"password": 1, "user": 0}
    node.rotate(password=b"two")
    assert noted(volume) == {"password": 1, "user": 0}
    app.read("/secrets/password")
    assert noted(volume) == {"password": 2, "user": 0}


def test_values_of_every_length_count_once_their_last_byte_is_out(node: Node) -> None:
    sizes = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, LONG, 1 << 20)
    app, volume = shown(node, **{f"value{size}": pattern(size) for size in sizes})
    for size in sizes:
        assert app.read(f"/secrets/value{size}").data == pattern(size)
        assert noted(volume)[f"value{size}"] == 1, size
    assert set(noted(volume).values()) == {1}


def test_a_read_that_stopped_half_way_does_not_count_until_it_ends(node: Node) -> None:
    app, volume = shown(node, password=pattern(LONG))
    fd = app.open(FILE)
    assert len(app.read_fd(fd, 100, 1).data) == 100
    assert noted(volume) == {"password": 0}
    assert len(app.read_fd(fd).data) == LONG - 100
    assert noted(volume) == {"password": 1}


def test_who_ends_an_old_version_late_is_not_taken_for_one_who_has_the_new(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    fd = app.open(FILE)
    first = app.read_fd(fd, 16, 1).data
    node.rotate(password=version(2, LONG))
    assert app.read(FILE).data == version(2, LONG)
    assert noted(volume) == {"password": 2}
    assert first + app.read_fd(fd).data == version(1, LONG)
    assert noted(volume) == {"password": 1}, "one process of the pod has the old version now"
    assert app.read(FILE).data == version(2, LONG)
    assert noted(volume) == {"password": 2}


def test_a_refused_reader_does_not_count(node: Node) -> None:
    pod, volume = rules.shown(node, From.APP)
    app = pod.container()
    assert node.process().read(str(volume.target / "password")).errno == errno.E2BIG
    assert pod.exec(app).read(FILE).errno == errno.E2BIG
    call(node, "close", volume)
    assert app.read(FILE).errno == errno.E2BIG
    assert noted(volume) == {"password": 0}
    call(node, "reopen", volume, {})
    assert app.read(FILE).data == rules.VALUE
    assert noted(volume) == {"password": 1}


def test_a_reader_refused_in_the_middle_does_not_count(node: Node) -> None:
    app, volume = shown(node, password=version(1, LONG))
    fd = app.open(FILE)
    app.read_fd(fd, 16, 1)
    node.rotate(password=version(2, LONG))
    node.retire()
    assert app.read_fd(fd).errno == errno.E2BIG
    assert noted(volume) == {"password": 0}


def test_a_reader_that_is_only_audited_got_the_value_and_counts(node: Node) -> None:
    pod, volume = rules.shown(node, From.APP, action=Action.AUDIT)
    assert pod.exec(pod.container()).read(FILE).data == rules.VALUE
    assert (noted(volume), volume.grant.audited) == ({"password": 1}, 1)


def test_each_volume_has_its_own_readers(node: Node) -> None:
    app, volume = shown(node, password=b"one")
    _, other = shown(node, password=b"one")
    node.rotate(password=b"two")
    assert app.read(FILE).data == b"two"
    assert (noted(volume), noted(other)) == ({"password": 2}, {"password": 0})


def test_a_task_between_two_files_of_a_secret_is_told_to_have_the_version_it_got(node: Node) -> None:
    app, volume = shown(node, user=b"alice", password=b"one")
    assert app("read_all", ["/secrets/user"])[0]["data"] == b"alice".hex()
    node.rotate(user=b"bob", password=b"two")
    assert app.read("/secrets/password").data == b"one", "the same round"
    assert noted(volume) == {"user": 1, "password": 1}


def test_an_unchanged_file_of_a_secret_that_rotated_is_not_behind(node: Node) -> None:
    app, volume = shown(node, user=b"alice", password=b"one")
    app("read_all", ["/secrets/user", "/secrets/password"])
    node.rotate(password=b"two")
    node.retire()
    assert told(volume) == {
        "user": FileRead(current=2, since=1, read=1, oldest=2),
        "password": FileRead(current=2, since=2, read=1, oldest=2),
    }
    node.rotate(user=b"bob")
    assert told(volume) == {
        "user": FileRead(current=3, since=3, read=1, oldest=2),
        "password": FileRead(current=3, since=2, read=1, oldest=2),
    }
    assert node.kernel.engine.generation(ref("db")) == 3
    assert node.kernel.engine.generation(ref("other")) == 0


def test_a_key_shown_later_is_as_old_as_what_can_still_be_read_of_its_secret(node: Node) -> None:
    _, volume = shown(node, user=b"alice")
    node.rotate(user=b"bob")
    node.retire()
    other = node.publish(node.pod(), {"db": {"password": b"hunter2"}})
    assert told(other) == {"password": FileRead(current=2, since=2, read=0, oldest=2)}
    assert told(volume) == {"user": FileRead(current=2, since=2, read=0, oldest=2)}


def test_a_volume_that_keeps_its_values_keeps_what_was_read_of_it_there_and_back(node: Node) -> None:
    app, volume = shown(node, password=b"one", user=b"alice")
    app.read(FILE)
    volume.state = call(node, "keep", volume)
    call(node, "apply", volume)
    assert noted(volume) == {"password": 1, "user": 0}
    node.rotate(password=b"two")
    node.retire()
    assert app.read("/secrets/user").data == b"alice"
    assert noted(volume) == {"password": 1, "user": 1}
    assert told(volume) == {
        "password": FileRead(current=2, since=2, read=1, oldest=1, follows=False),
        "user": FileRead(current=2, since=1, read=1, oldest=1, follows=False),
    }
    volume.state = call(node, "follow", volume, {})
    call(node, "apply", volume)
    node.retire()
    assert told(volume)["password"] == FileRead(current=2, since=2, read=1, oldest=2)
    assert app.read(FILE).data == b"two"
    assert told(volume)["password"] == FileRead(current=2, since=2, read=2, oldest=2)


def test_of_a_closed_volume_nobody_can_get_anything_old(node: Node) -> None:
    app, volume = shown(node, password=b"one")
    app.read(FILE)
    call(node, "close", volume)
    node.rotate(password=b"two")
    assert told(volume) == {"password": FileRead(current=2, since=2, read=1, oldest=2)}


def test_what_was_read_and_since_when_a_value_stands_outlive_the_agent(node: Node) -> None:
    app, volume = shown(node, user=b"alice", password=b"one")
    app("read_all", ["/secrets/user", "/secrets/password"])
    node.rotate(password=b"two")
    app.read(FILE)
    node.rotate(password=b"three")
    before = told(volume)
    node.restart()
    assert told(volume) == {name: FileRead(3, read.since, read.read, 3) for name, read in before.items()}
    assert (told(volume)["user"].since, told(volume)["password"].since) == (1, 3)
    assert noted(volume) == {"user": 1, "password": 2}


def test_a_version_is_everyones_once_all_who_read_have_it_and_nothing_older_can_be_read(node: Node) -> None:
    def reads(of: SecretRef) -> list[tuple[VolumePlan, FilePlan, FileRead]]:
        engine = node.kernel.engine
        return [(v.state.plan, file, read) for v in node.volumes for file, read in engine.reads(v.state, of)]

    book = ReadBook(reads)
    first, _ = shown(node, password=b"one")
    second, _ = shown(node, password=b"one")
    shown(node, password=b"one")
    book.learn(ref("db"), node.kernel.engine.generation(ref("db")), "version 1")
    first.read(FILE)
    second.read(FILE)
    node.rotate(password=b"two")
    book.learn(ref("db"), node.kernel.engine.generation(ref("db")), "version 2")
    node.retire()
    steps = []
    for reader in (first, second):
        reader.read(FILE)
        steps.append(
            (book.everyone_has(ref("db")), sorted((found.standing for found in book.readers(ref("db"))), key=str))
        )
    assert steps == [
        ("version 1", [Standing.BEHIND, Standing.CURRENT, Standing.UNREAD]),
        ("version 2", [Standing.CURRENT, Standing.CURRENT, Standing.UNREAD]),
    ]
    node.rotate(password=b"three")
    book.learn(ref("db"), node.kernel.engine.generation(ref("db")), "version 3")
    first.read(FILE)
    second.read(FILE)
    assert book.everyone_has(ref("db")) == "version 2", "who began before the flip may still end"
    node.retire()
    assert book.everyone_has(ref("db")) == "version 3"
