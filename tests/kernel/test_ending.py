"""After the end of a volume, or where something of it is missing: nothing is served, and nothing is left."""

from __future__ import annotations

import errno

from agent.kernel import calls
from agent.kernel.layout import Chunk, ChunkKey, Limit, Reason
from tests.kernel.harness.node import Node
from tests.kernel.harness.values import pattern

CHUNK = int(Limit.CHUNK_BYTES)


def test_a_volume_that_has_ended_leaves_nothing_of_its_value(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": pattern(20 * CHUNK)}})
    other = node.publish(node.pod(), {"other": {"token": b"kept"}})
    node.rotate(password=pattern(20 * CHUNK, seed=2))
    node.end(volume)
    maps = node.kernel.maps
    assert node.chunks() == 1
    assert {version.set_id for version in maps.versions()} == {shown.set_id for shown in other.kernel.sets}
    assert {key.files_id for key in maps.files()} == {other.kernel.grant_id}
    assert maps.grants.used == maps.sets.used == 1


def test_a_mount_that_leaked_into_another_namespace_gives_nothing_after_the_end(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"short": b"hunter2", "long": pattern(48 * 1024)}})
    app = pod.container()
    half = app.open("/secrets/long")
    assert len(app.read_fd(half, 16, 1).data) == 16
    assert app.read("/secrets/short").data == b"hunter2"
    node.end(volume)
    for name in ("short", "long"):
        found = app.read(f"/secrets/{name}")
        assert (found.data, found.errno) == (b"", errno.E2BIG), name
    # What the half-read descriptor had buffered comes, and no more than that.
    rest = app.read_fd(half)
    assert (len(rest.data) <= 32768, rest.errno) == (True, errno.E2BIG)
    assert node.kernel.maps.counters.unknown_reads == 2
    pod.volumes.clear()


def test_the_number_of_a_device_or_an_inode_that_comes_again_opens_nothing(node: Node) -> None:
    """The grant is named by a number that never comes again, so a new volume in an old one's places is its own."""
    first = node.pod()
    ended = node.publish(first, {"db": {"password": b"old"}})
    kept = first.container()
    node.end(ended)
    first.volumes.clear()
    second = node.pod()
    volume = node.publish(second, {"db": {"password": b"new"}})
    assert volume.kernel.grant_slot == ended.kernel.grant_slot
    assert kept.read("/secrets/password").errno == errno.E2BIG
    assert second.container().read("/secrets/password").data == b"new"


def test_a_value_with_a_hole_ends_in_an_error_and_never_as_a_shorter_value(node: Node) -> None:
    pod = node.pod()
    value = pattern(30 * CHUNK)
    volume = node.publish(pod, {"db": {"password": value}})
    (stored,) = node.kernel.maps.versions()
    calls.delete(node.kernel.programs.maps["chunks"], ChunkKey(stored.value_id, 12))
    found = pod.container().read("/secrets/password")
    assert (found.errno, value.startswith(found.data)) == (errno.E2BIG, True)
    assert len(found.data) < 12 * CHUNK
    assert set(volume.refusals()) == {Reason.VALUE}
    calls.update(node.kernel.programs.maps["chunks"], ChunkKey(stored.value_id, 12), Chunk())


def test_a_grant_that_has_ended_serves_nothing_also_where_its_mount_is_still_whole(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}})
    app = pod.container()
    for number in (0, volume.kernel.grant_id + 1000):
        volume.grant.id = number
        found = app.read("/secrets/password")
        assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert (volume.refusals(), node.kernel.maps.counters.unknown_reads) == ({}, 2)


def test_a_file_of_another_device_than_the_grants_is_refused(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}})
    app = pod.container()
    volume.grant.device += 1
    assert app.read("/secrets/password").errno == errno.E2BIG
    assert volume.refusals() == {Reason.MOUNT: 1}
