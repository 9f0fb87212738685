"""What else an attacker tries who has uid 0 and a container's default capabilities, or who came in from outside."""

from __future__ import annotations

import errno
import os

import pytest

from agent.kernel.layout import Reason
from agent.model import From
from tests.kernel.harness.family import PYTHON, Actor
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import FILE, VALUE, shown
from tests.kernel.harness.values import pattern

LONG = pattern(256 * 1024)
NOT_ALLOWED = {errno.EROFS, errno.EPERM, errno.EACCES}


def fails(actor: Actor, name: str, *args: object) -> int:
    """The errno with which a function of `os` fails; an assertion where it does not."""
    try:
        result = actor("attempt", name, *args)
    except OSError as error:
        return error.errno or 0
    raise AssertionError(f"{name}{args} gave {result}")


def test_a_pid_that_comes_again_brings_no_right_with_it(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    app = pod.container()
    shell = pod.exec(app, capabilities="all")
    child = app.spawn()
    assert child.read(FILE).data == VALUE
    app.reap(child)
    reborn = shell.spawn_as(child.inner_pid)
    assert reborn.inner_pid == child.inner_pid
    assert reborn.read(FILE).errno == errno.E2BIG
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_the_host_pid_of_a_containers_first_program_brings_no_right_with_it(any_node: Node) -> None:
    pod, _ = shown(any_node, From.MAIN)
    app = pod.container(host_pid=True)
    pod.container("side")
    shell = pod.exec(app, host_pid=True, capabilities="all")
    assert app.read(FILE).data == VALUE
    app.kill()
    pod.processes[0].wait(timeout=20)
    reborn = shell.spawn_as(app.pid)
    assert reborn.pid == app.pid
    assert reborn.read(FILE).errno == errno.E2BIG


@pytest.mark.parametrize("capabilities", ["default", "all"])
def test_a_workload_can_change_nothing_of_its_volume(node: Node, capabilities: str) -> None:
    """With all capabilities it can remount, but that is the node's root; `default` is what containers have."""
    pod, _ = shown(node, From.ANY)
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
    assert app.read(FILE).data == VALUE


def test_a_container_cannot_remount_its_volume_not_even_as_root_of_a_user_namespace(node: Node) -> None:
    pod, _ = shown(node, From.ANY)
    app = pod.container()
    for command in ("mount -o remount,rw,bind /secrets", "mount -o remount,rw,bind /secrets/.kernelsecret"):
        assert app.run("/bin/sh", "-c", command)[0] != 0
        assert app.run("/usr/bin/unshare", "-Urm", "/bin/sh", "-c", command)[0] != 0
    assert app.run("/bin/sh", "-c", "umount -l /secrets/.kernelsecret")[0] != 0
    assert app.read(FILE).data == VALUE


def test_chroot_makes_nobody_another(node: Node) -> None:
    """With SYS_CHROOT a path says nothing, so none is compared."""
    pod, volume = shown(node, From.APP)
    app = pod.container()
    child, shell = app.spawn(), pod.exec(app)
    for task in (child, shell):
        task("attempt", "chroot", "/secrets")
    assert child.read("/password").data == VALUE
    assert shell.read("/password").errno == errno.E2BIG
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_ways_round_read_give_an_error_and_no_byte(node: Node) -> None:
    pod, _ = shown(node, From.ANY, value=LONG)
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
