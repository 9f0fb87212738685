"""What a reader of a secret file gets: exactly the bytes, in whatever pieces it asks for them, or nothing and E2BIG."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from agent.kernel.layout import Limit, Reason
from agent.kernel.store import steps_of
from agent.model import AccessRule, From
from tests.kernel.harness.family import PYTHON
from tests.kernel.harness.node import Node, ref
from tests.kernel.harness.values import pattern

CHUNK = int(Limit.CHUNK_BYTES)
LEAD = CHUNK * Limit.LEAD_STEPS
SIZES = (0, 1, 17, CHUNK - 1, CHUNK, CHUNK + 1, 4096, LEAD, LEAD + 1, 32767, 32768, 32769, 48 * 1024, 1 << 20)


def test_every_size_is_read_exactly_and_stat_tells_it(node: Node) -> None:
    values = {f"value-{size}.bin": pattern(size) for size in SIZES}
    pod = node.pod()
    node.publish(pod, {"db": values})
    app = pod.container()
    for name, value in values.items():
        found = app.read(f"/secrets/{name}")
        assert (found.errno, len(found.data)) == (0, len(value)), name
        assert found.data == value, name
        assert app("stat", f"/secrets/{name}")["size"] == len(value), name


@pytest.mark.parametrize("size", [1, 7, 1527, 4096, 65536])
def test_reads_of_any_size_give_the_same_bytes(node: Node, size: int) -> None:
    values = {f"value-{length}": pattern(length) for length in (0, 5, CHUNK, CHUNK + 1, LEAD + 3 * CHUNK, 48 * 1024)}
    pod = node.pod()
    node.publish(pod, {"db": values})
    app = pod.container()
    for name, value in values.items():
        found = app.read(f"/secrets/{name}", size)
        assert (found.data, found.errno) == (value, 0), name


def test_values_around_every_step_are_whole(node: Node) -> None:
    """A step ends at each of the first four chunks, then every twenty: one byte less, exact, one byte more."""
    edges = [LEAD + steps * Limit.STEP_CHUNKS * CHUNK for steps in (1, 2)]
    values = {f"value-{size}": pattern(size) for edge in edges for size in (edge - 1, edge, edge + 1)}
    assert {steps_of(len(value)) for value in values.values()} == {5, 6, 7}
    pod = node.pod()
    node.publish(pod, {"db": values})
    app = pod.container()
    for name, value in values.items():
        assert app.read(f"/secrets/{name}").data == value, name


def test_a_refused_read_is_e2big_and_emits_nothing(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"short": b"hunter2", "long": pattern(48 * 1024)}})
    host = node.process()
    for name in ("short", "long"):
        found = host.read(str(volume.target / name))
        assert (found.data, found.errno) == (b"", errno.E2BIG), name
        found = host.read(str(volume.target / name), 1)
        assert (found.data, found.errno) == (b"", errno.E2BIG), name
    assert volume.refusals() == {Reason.POD: 4}


def test_names_may_have_dots_and_only_the_files_are_to_be_seen(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"db": {"tls.crt": b"certificate", "tls.key": b"key", ".env": b"a=b", "a.b.c": b"deep"}})
    app = pod.container()
    assert app.read("/secrets/tls.crt").data == b"certificate"
    assert app.read("/secrets/.env").data == b"a=b"
    assert app.read("/secrets/..data/a.b.c").data == b"deep"
    names = app("attempt", "listdir", "/secrets")
    assert sorted(names) == ["..data", ".env", ".kernelsecret", "a.b.c", "tls.crt", "tls.key"]
    assert sorted(app("attempt", "listdir", "/secrets/.kernelsecret")) == ["0", "1", "2", "3"]
    assert app.read("/secrets/missing").errno == errno.ENOENT


def test_modes_owner_and_group_are_the_plans(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"db": {"password": b"hunter2"}}, mode=0o440, fs_group=2000)
    root = pod.container()
    seen = root("stat", "/secrets/password")
    assert (stat.S_IMODE(seen["mode"]), seen["uid"], seen["gid"]) == (0o440, 0, 2000)
    member = pod.container("member", uid=1000, groups=(2000,))
    assert member.read("/secrets/password").data == b"hunter2"
    stranger = pod.container("stranger", uid=1001)
    assert stranger.read("/secrets/password").errno == errno.EACCES


def test_every_mount_of_a_volume_is_quiet_and_read_only(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"hunter2"}})
    target = str(volume.target)
    with open("/proc/self/mountinfo") as lines:
        found = [line.split()[5].split(",") for line in lines if line.split()[4].startswith(target)]
    assert len(found) == 2
    for options in found:
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)


def test_a_value_shown_by_two_volumes_is_stored_once_and_flipped_once(node: Node) -> None:
    value = pattern(10 * CHUNK)
    pods = [node.pod() for _ in range(2)]
    volumes = [node.publish(pod, {"db": {"password": value}}) for pod in pods]
    assert node.chunks() == 10
    apps = [pod.container() for pod in pods]
    assert [app.read("/secrets/password").data for app in apps] == [value] * 2
    following = pattern(10 * CHUNK, seed=2)
    assert node.rotate(password=following) == {"password"}
    assert volumes[0].set_of("db").flips == 1
    assert [app.read("/secrets/password").data for app in apps] == [following] * 2
    node.retire()
    assert node.chunks() == 10


def test_the_same_value_under_two_secrets_is_stored_once(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"one": {"a": pattern(3 * CHUNK)}, "two": {"b": pattern(3 * CHUNK)}})
    assert node.chunks() == 3
    node.rotate("one", a=b"short")
    node.retire()
    assert node.chunks() == 4
    assert pod.container().read("/secrets/b").data == pattern(3 * CHUNK)


def test_a_version_that_changes_nothing_flips_nothing(node: Node) -> None:
    pod = node.pod()
    volume = node.publish(pod, {"db": {"password": b"same", "user": b"alice"}})
    assert node.rotate(password=b"same") == set()
    assert volume.set_of("db").flips == 0


def test_a_new_key_of_a_known_secret_is_there_for_every_volume(node: Node) -> None:
    one, two = node.pod(), node.pod()
    node.publish(one, {"db": {"user": b"alice"}})
    node.rotate(user=b"bob")
    volume = node.publish(two, {"db": {"user": b"ignored", "password": b"hunter2"}})
    app = two.container()
    assert [found["data"] for found in app("read_all", ["/secrets/user", "/secrets/password"])] == [
        b"bob".hex(),
        b"hunter2".hex(),
    ]
    node.rotate(password=b"new", user=b"carol")
    assert (app.read("/secrets/user").data, app.read("/secrets/password").data) == (b"carol", b"new")
    assert volume.set_of("db").current == 3


def test_a_secret_without_a_key_that_is_shown_is_refused_and_the_last_good_one_stays(node: Node) -> None:
    pod = node.pod()
    node.publish(pod, {"db": {"user": b"alice", "password": b"one"}})
    del node.values[ref("db")]["user"]
    with pytest.raises(Exception, match="has no key 'user'"):
        node.rotate(password=b"two")
    app = pod.container()
    assert (app.read("/secrets/user").data, app.read("/secrets/password").data) == (b"alice", b"one")


def test_what_such_a_file_cannot_do_fails_loudly(node: Node) -> None:
    """Nothing of this may give wrong bytes; KERNEL facts say with which errno each ends."""
    pod = node.pod()
    node.publish(pod, {"db": {"password": b"hunter2"}}, AccessRule(From.ANY))
    app = pod.container()
    fd = app.open("/secrets/password")
    with pytest.raises(OSError) as failed:  # noqa: PT011 - its errno is looked at below
        app("attempt", "lseek", fd, 0, os.SEEK_END)
    assert failed.value.errno == errno.ESPIPE
    script = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 7, prot=mmap.PROT_READ)"
    code, _, complaint = app.run(PYTHON, "-I", "-c", script, "/secrets/password")
    assert (code, "No such device" in complaint) == (1, True), complaint
