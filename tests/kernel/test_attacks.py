"""What an attacker tries who has uid 0 and a container's default capabilities, or who came in from outside."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from agent.kernel.layout import Limit, Reason
from agent.model import AccessRule, From
from tests.kernel.harness import eyes
from tests.kernel.harness.family import PYTHON, Actor
from tests.kernel.harness.node import Node, Volume
from tests.kernel.harness.pods import Pod
from tests.kernel.harness.values import pattern

FILE = "/secrets/password"
LONG = pattern(256 * 1024)
CAT = "/usr/bin/cat"
FIRST_OF_STEPS = Limit.CHUNK_BYTES - 1
"""What a descriptor can hold that was read in the first four chunks of a value."""
LATER = Limit.STEP_CHUNKS * Limit.CHUNK_BYTES
LINK_UPDATE, LINK_DETACH, OBJ_PIN = 29, 34, 6
NOT_ALLOWED = {errno.EROFS, errno.EPERM, errno.EACCES}


def shown(node: Node, value: bytes = b"hunter2", from_: From = From.APP, *binaries: str) -> tuple[Pod, Volume]:
    pod = node.pod()
    return pod, node.publish(pod, {"db": {"password": value}}, AccessRule(from_, binaries))


def fails(actor: Actor, name: str, *args: object) -> int:
    """The errno with which a function of `os` fails; an assertion where it does not."""
    try:
        result = actor("attempt", name, *args)
    except OSError as error:
        return error.errno or 0
    raise AssertionError(f"{name}{args} gave {result}")


# A descriptor that is handed over


def test_a_descriptor_that_was_not_read_gives_another_pod_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node)
    thief = any_node.pod().container()
    app = pod.container()
    fd = app.give(app.open(FILE), thief)
    found = thief.read_fd(fd)
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.POD: 1}
    assert app.read(FILE).data == b"hunter2"


@pytest.mark.parametrize(
    ("size", "reads", "most"),
    [
        (1, 1, FIRST_OF_STEPS),
        (Limit.CHUNK_BYTES, 1, FIRST_OF_STEPS),
        (2000, 2, FIRST_OF_STEPS),
        (4096, 1, FIRST_OF_STEPS),
        (6112, 1, FIRST_OF_STEPS),
        (6113, 1, LATER),
        (8192, 1, LATER),
        (32768, 1, LATER),
        (1 << 20, 2, LATER),
    ],
)
def test_a_half_read_descriptor_gives_only_what_it_had_buffered(node: Node, size: int, reads: int, most: int) -> None:
    """The kernel hands leftovers out without asking; the first four chunks go out one by one to keep them small."""
    pod, volume = shown(node, LONG)
    thief = node.pod().container()
    app = pod.container()
    mine = app.open(FILE)
    read = app.read_fd(mine, size, reads).data
    stolen = thief.read_fd(app.give(mine, thief))
    assert read + stolen.data == LONG[: len(read) + len(stolen.data)]
    assert stolen.errno == errno.E2BIG
    assert len(stolen.data) < most + 1
    assert volume.refusals() == {Reason.POD: 1}


def test_of_a_short_value_read_by_one_byte_a_thief_gets_less_than_a_chunk(node: Node) -> None:
    value = pattern(4 * Limit.CHUNK_BYTES)
    pod, _ = shown(node, value)
    thief = node.pod().container()
    app = pod.container()
    for length in (0, 100, Limit.CHUNK_BYTES, 2 * Limit.CHUNK_BYTES + 5, len(value)):
        mine = app.open(FILE)
        read = app.read_fd(mine, length, 1).data if length else b""
        assert len(thief.read_fd(app.give(mine, thief)).data) <= FIRST_OF_STEPS
        assert read == value[:length]


def test_an_entered_shell_gets_nothing_from_a_descriptor_of_the_application(any_node: Node) -> None:
    pod, volume = shown(any_node)
    app = pod.container()
    shell = pod.exec(app)
    found = shell.read_fd(app.give(app.open(FILE), shell))
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_a_descriptor_inherited_over_exec_is_judged_by_who_reads(node: Node) -> None:
    pod, volume = shown(node, from_=From.MAIN)
    app = pod.container()
    child = app.spawn()
    fd = child.open(FILE)
    child("attempt", "set_inheritable", fd, True)
    found = child.execute().read_fd(fd)
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.NOT_MAIN: 1}


# Through /proc


def test_proc_of_a_victim_gives_another_pod_and_the_node_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node)
    app = pod.container()
    fd = app.open(FILE)
    thief = any_node.pod().container(host_pid=True, capabilities="all")
    host = any_node.process()
    for path in (f"/proc/{app.pid}/fd/{fd}", f"/proc/{app.pid}/root{FILE}"):
        for task in (thief, host):
            found = task.read(path)
            assert (found.data, found.errno) == (b"", errno.E2BIG), (task.label, path)
    assert volume.refusals() == {Reason.POD: 4}


def test_proc_of_a_victim_gives_an_entered_shell_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node)
    app = pod.container()
    fd = app.open(FILE)
    shell = pod.exec(app)
    for path in (f"/proc/{app.inner_pid}/fd/{fd}", f"/proc/{app.inner_pid}/root{FILE}", f"/proc/self/root{FILE}"):
        found = shell.read(path)
        assert (found.data, found.errno) == (b"", errno.E2BIG), path
    assert volume.refusals() == {Reason.ENTERED: 3}


# BPF


@pytest.mark.parametrize("capabilities", ["default", "none"])
def test_nothing_that_a_workload_sees_opens_a_map_or_a_program(node: Node, capabilities: str) -> None:
    pod, _ = shown(node, from_=From.ANY)
    app = pod.container(capabilities=capabilities)
    paths = app("walk", "/secrets")
    assert "/secrets/.kernelsecret/0" in paths
    assert not [path for path in app("walk", "/run") if "kernelsecret" in path]
    for path in paths:
        for flags in (0, 1 << 3, 1 << 4):  # as it is, BPF_F_RDONLY, BPF_F_WRONLY
            got = app("kind_of_pin", path, flags)
            assert got in ("anon_inode:bpf-link", "anon_inode:bpf_link") or got in NOT_ALLOWED | {errno.EINVAL}, (
                path,
                got,
            )
    for kind in eyes.NEXT_ID.values():
        with pytest.raises(PermissionError):
            app("bpf", kind, struct.pack("=II", 0, 0).hex())
    assert app.read(FILE).data == b"hunter2"


def test_a_link_in_the_hands_of_an_uncapable_root_gives_no_byte_and_cannot_be_broken(node: Node) -> None:
    """DAC_OVERRIDE opens the link even through a read-only mount; what can be made of it is judged as every reader."""
    pod, volume = shown(node, from_=From.ANY)
    app = pod.container()
    shell = pod.exec(app)
    link = shell("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), FILE)
    found = shell.read_fd(shell("bpf", eyes.ITER_CREATE, struct.pack("=II", link, 0).hex()))
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.MOUNT: 1}
    for command, attributes in ((LINK_DETACH, (link,)), (LINK_UPDATE, (link, link, 0, 0))):
        with pytest.raises(OSError):  # noqa: PT011 - whichever errno this kernel has for it
            shell("bpf", command, struct.pack(f"={len(attributes)}I", *attributes).hex())
    assert app.read(FILE).data == b"hunter2"


def test_an_iterator_that_a_privileged_process_makes_of_a_link_is_judged(node: Node) -> None:
    """Even of the pod itself, and under `any`: what it makes is not a file of the volume's mount."""
    pod, volume = shown(node, from_=From.ANY)
    app = pod.container(capabilities="all", mounts=((node.run_dir / "volumes" / volume.state.name, "/writable"),))
    host = node.process()
    places = ((app, "/writable/.kernelsecret/0"), (host, str(node.run_dir / "bpf" / "links" / volume.state.name)))
    for task, path in places:
        link = task("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), path)
        assert "link" in task("descriptor_kind", link)
        found = task.read_fd(task("bpf", eyes.ITER_CREATE, struct.pack("=II", link, 0).hex()))
        assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.MOUNT: 2}


def test_a_link_pinned_elsewhere_by_a_privileged_process_opens_nothing(node: Node, tmp_path: Path) -> None:
    """Another bpffs is another device, and another inode there is no file of the grant."""
    pod, volume = shown(node, from_=From.ANY)
    app = pod.container(capabilities="all", mounts=((node.run_dir / "volumes" / volume.state.name, "/writable"),))
    link = app("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), "/writable/.kernelsecret/0")
    app("attempt", "mkdir", "/tmp/own")
    app("mount", "bpf", "/tmp/own", "bpf", 0)
    for path in ("/tmp/own/stolen", "/writable/.kernelsecret/stolen"):
        app("bpf", OBJ_PIN, struct.pack("=II", link, 0).hex(), path)
        found = app.read(path)
        assert (found.data, found.errno) == (b"", errno.E2BIG), path
    assert volume.refusals() == {Reason.MOUNT: 2}


# Binaries


def test_a_copy_of_a_named_binary_is_not_it(node: Node) -> None:
    pod, volume = shown(node, b"hunter2", From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    assert app.run(CAT, FILE)[:2] == (0, b"hunter2")
    assert app.run("/usr/bin/cp", CAT, "/tmp/cat")[0] == 0
    assert app.run("/tmp/cat", FILE)[:2] == (1, b"")
    assert volume.refusals() == {Reason.BINARY: 1}


def test_the_dynamic_loader_as_interpreter_is_not_the_binary(node: Node) -> None:
    pod, volume = shown(node, b"hunter2", From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    loaders = [path for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux*.so.*")]
    code, out, _ = app.run(str(loaders[0]), CAT, FILE)
    assert (code, out) == (1, b"")
    assert volume.refusals() == {Reason.BINARY: 1}


def test_a_link_to_a_named_binary_is_it_and_a_file_put_in_its_place_is_not(node: Node, tmp_path: Path) -> None:
    layers = {name: tmp_path / name for name in ("lower", "upper", "work")}
    for folder in layers.values():
        folder.mkdir()
    for name in ("reader", "evil"):
        (layers["lower"] / name).write_bytes(Path(CAT).resolve().read_bytes())
        (layers["lower"] / name).chmod(0o755)
    pod, _ = shown(node, b"hunter2", From.BINARIES, "/reader")
    pod.start(overlay=",".join(f"{name}dir={path}" for name, path in layers.items()))
    node.handle_starts()
    app = pod.family.welcome()
    app("attempt", "symlink", "/reader", "/tmp/soft")
    assert app.run("/tmp/soft", FILE)[:2] == (0, b"hunter2")
    assert app.run("/evil", FILE)[0] == 1
    app("attempt", "rename", "/evil", "/reader")
    assert app.run("/reader", FILE)[0] == 1


# Numbers that come again


def test_a_pid_that_comes_again_brings_no_right_with_it(any_node: Node) -> None:
    pod, volume = shown(any_node)
    app = pod.container()
    shell = pod.exec(app, capabilities="all")
    child = app.spawn()
    assert child.read(FILE).data == b"hunter2"
    app.reap(child)
    reborn = shell.spawn_as(child.inner_pid)
    assert reborn.inner_pid == child.inner_pid
    assert reborn.read(FILE).errno == errno.E2BIG
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_the_host_pid_of_a_containers_first_program_brings_no_right_with_it(any_node: Node) -> None:
    pod, _ = shown(any_node, from_=From.MAIN)
    app = pod.container(host_pid=True)
    pod.container("side")
    shell = pod.exec(app, host_pid=True, capabilities="all")
    assert app.read(FILE).data == b"hunter2"
    app.kill()
    pod.processes[0].wait(timeout=20)
    reborn = shell.spawn_as(app.pid)
    assert reborn.pid == app.pid
    assert reborn.read(FILE).errno == errno.E2BIG


# The volume itself


@pytest.mark.parametrize("capabilities", ["default", "all"])
def test_a_workload_can_change_nothing_of_its_volume(node: Node, capabilities: str) -> None:
    """With all capabilities it can remount, but that is the node's root; `default` is what containers have."""
    pod, _ = shown(node, from_=From.ANY)
    app = pod.container(capabilities=capabilities)
    inner = "/secrets/.kernelsecret/0"
    attempts: list[tuple[object, ...]] = [
        ("open", FILE, os.O_WRONLY),
        ("open", FILE, os.O_RDWR),
        ("open", "/secrets/new", os.O_WRONLY | os.O_CREAT),
        ("truncate", FILE, 0),
        ("truncate", inner, 1),
        ("unlink", FILE),
        ("unlink", inner),
        ("rename", FILE, "/secrets/other"),
        ("rename", inner, "/secrets/.kernelsecret/1"),
        ("symlink", "/etc/passwd", "/secrets/link"),
        ("mkdir", "/secrets/.kernelsecret/d"),
        ("chmod", inner, 0o777),
        ("chown", inner, 1, 1),
        ("utime", inner),
        ("rmdir", "/secrets/.kernelsecret"),
    ]
    for name, *args in attempts:
        expected = NOT_ALLOWED | ({errno.EBUSY} if name == "rmdir" else set())
        assert fails(app, str(name), *args) in expected, (name, args)
    assert app.read(FILE).data == b"hunter2"


def test_a_container_cannot_remount_its_volume_not_even_as_root_of_a_user_namespace(node: Node) -> None:
    pod, _ = shown(node, from_=From.ANY)
    app = pod.container()
    for command in ("mount -o remount,rw,bind /secrets", "mount -o remount,rw,bind /secrets/.kernelsecret"):
        assert app.run("/bin/sh", "-c", command)[0] != 0
        assert app.run("/usr/bin/unshare", "-Urm", "/bin/sh", "-c", command)[0] != 0
    assert app.run("/bin/sh", "-c", "umount -l /secrets/.kernelsecret")[0] != 0
    assert app.read(FILE).data == b"hunter2"


def test_chroot_makes_nobody_another(node: Node) -> None:
    """With SYS_CHROOT a path says nothing, so none is compared."""
    pod, volume = shown(node, from_=From.APP)
    app = pod.container()
    child, shell = app.spawn(), pod.exec(app)
    for task in (child, shell):
        task("attempt", "chroot", "/secrets")
    assert child.read("/password").data == b"hunter2"
    assert shell.read("/password").errno == errno.E2BIG
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_a_chroot_with_another_program_at_the_named_path_is_refused(node: Node) -> None:
    pod, volume = shown(node, b"hunter2", From.BINARIES, CAT)
    pod.start()
    node.handle_starts()
    app = pod.family.welcome()
    assert app.run("/bin/sh", "-c", "mkdir -p /tmp/jail/usr/bin && cp /usr/bin/busybox /tmp/jail/usr/bin/cat")[0] == 0
    fd = app.open(FILE)
    app("attempt", "set_inheritable", fd, True)
    child = app.spawn()
    child("attempt", "dup2", fd, 0)
    child("attempt", "chroot", "/tmp/jail")
    code, out, complaint = child.run_on_stdin("/usr/bin/cat")
    assert (code, out, "Argument list too long" in complaint) == (1, b"", True)
    assert volume.refusals() == {Reason.BINARY: 1}


def test_ways_round_read_give_an_error_and_no_byte(node: Node) -> None:
    pod, _ = shown(node, LONG, From.ANY)
    app = pod.container()
    script = """
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
out = os.memfd_create("out")
r, w = os.pipe()
tries = {
    "sendfile": lambda: os.sendfile(out, fd, 0, 100),
    "splice": lambda: os.splice(fd, w, 100),
    "copy_file_range": lambda: os.copy_file_range(fd, out, 100),
    "direct": lambda: os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT),
}
for name, attempt in tries.items():
    try:
        print(name, attempt())
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"""
    code, out, complaint = app.run(PYTHON, "-I", "-S", "-c", script, FILE)
    assert (code, complaint) == (0, "")
    assert dict(line.split() for line in out.decode().splitlines()) == {
        "sendfile": "EINVAL",
        "splice": "EINVAL",
        "copy_file_range": "EXDEV",
        "direct": "EINVAL",
    }
