"""The runtime's side of a container's start, in a process of its own. Run as a script with `-I -S`: stdlib only.

Like runc: the parent attaches this process to the container's cgroup before it does anything (it waits for its orders
until then); it makes or joins namespaces, clones a sibling (CLONE_PARENT, so that the caller is its parent and can wait
for it), and that sibling builds its root, gives up what a container must not have, and executes the program.

Orders come as one JSON line on a socket, whose number is the only argument. Answers: `pid N`, or `error TEXT`; the
socket closes by itself when the program is executed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

NEWNS, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
KINDS = {"mnt": NEWNS, "uts": NEWUTS, "ipc": NEWIPC, "pid": NEWPID, "net": NEWNET}
CLONE_PARENT = 0x8000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE, ATTR_RDONLY = -100, 0x8000, 1
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_MOUNT_SETATTR = 442
PR_CAPBSET_DROP = 24
CAPABILITY_VERSION_3 = 0x20080522
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_machine = os.uname().machine


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _mount(source: str, point: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    encoded = kind.encode() if kind else None
    result = _libc.mount(
        os.fsencode(source), os.fsencode(point), encoded, ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, f"mount {point}")


def _bind(source: str, point: str, *, read_only: bool) -> None:
    _mount(source, point, flags=MS_BIND | MS_REC)
    if read_only:
        attributes = (ctypes.c_uint64 * 4)(ATTR_RDONLY, 0, 0, 0)
        result = _libc.syscall(
            ctypes.c_long(SYS_MOUNT_SETATTR),
            AT_FDCWD,
            os.fsencode(point),
            AT_RECURSIVE,
            attributes,
            ctypes.c_size_t(32),
        )
        _check(result, f"mount_setattr {point}")


def _build_root(root: str, orders: dict[str, Any]) -> None:
    """A root of its own: the host's programs read-only, everything else fresh."""
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    _mount("rootfs", root, "tmpfs", MS_NODEV, "mode=755,size=64m")
    for path in orders["system"]:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path)
            _bind(path, root + path, read_only=True)
    for name in ("proc", "sys", "dev", "tmp", "run", "var"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)  # noqa: S103 (as everywhere)
    os.symlink("/run", f"{root}/var/run")
    os.symlink("/tmp", f"{root}/var/tmp")
    _build_proc_and_dev(root, own_pids=orders["own_pids"])
    for point, source, read_only in orders["binds"]:
        where = root + point.replace("/var/run/", "/run/", 1)
        if os.path.isdir(source):
            os.makedirs(where, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(where), exist_ok=True)
            os.close(os.open(where, os.O_CREAT | os.O_WRONLY, 0o644))
        _bind(source, where, read_only=read_only)
    os.chdir(root)
    _check(_libc.syscall(ctypes.c_long(SYS_PIVOT_ROOT[_machine]), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def _build_proc_and_dev(root: str, *, own_pids: bool) -> None:
    quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC
    try:
        if not own_pids:
            raise PermissionError
        _mount("proc", f"{root}/proc", "proc", quiet)
    except PermissionError:  # the host's pids are the container's; or a user namespace whose own /proc is masked
        _bind("/proc", f"{root}/proc", read_only=False)
    with suppress(PermissionError):  # in a user namespace, where nothing here needs it
        _mount("sysfs", f"{root}/sys", "sysfs", quiet | MS_RDONLY)
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
            _bind(f"/dev/{name}", f"{root}/dev/{name}", read_only=False)
    os.makedirs(f"{root}/dev/shm")
    _mount("shm", f"{root}/dev/shm", "tmpfs", quiet, "mode=1777,size=64m")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")


def _drop_privileges(orders: dict[str, Any]) -> None:
    """The bounding set rules what uid 0 has after the exec; another uid keeps nothing."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    kept = orders["capabilities"]
    for number in range(last + 1):
        if number not in kept:
            _check(_libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0), f"dropping capability {number}")
    if orders["gid"] or orders["uid"] or orders["groups"]:
        os.setgroups(orders["groups"])
        os.setresgid(*[orders["gid"]] * 3)
        os.setresuid(*[orders["uid"]] * 3)
    mask = sum(1 << number for number in kept) if not orders["uid"] else 0
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def _become(orders: dict[str, Any]) -> None:
    """In the sibling: everything up to the exec, which does not return."""
    os.setsid()
    if orders["join"]:
        os.chdir("/")
    else:
        _build_root(orders["root"], orders)
        os.environ.clear()
    if orders["hostname"] and not orders["join"]:
        _check(_libc.sethostname(orders["hostname"].encode(), len(orders["hostname"])), "sethostname")
    _drop_privileges(orders)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    argv, environment = orders["argv"], orders["environment"]
    if orders["executable"]:
        os.execve(orders["executable"], argv, environment)  # noqa: S606
    os.execvpe(argv[0], argv, environment)  # noqa: S606


def _enter(pid: int, kinds: list[str]) -> None:
    pidfd = os.pidfd_open(pid)
    _check(_libc.setns(pidfd, sum(KINDS[kind] for kind in kinds)), "setns")
    os.close(pidfd)


def main(control: socket.socket) -> None:
    """Obey."""
    control.set_inheritable(False)  # it closes at the exec, which is how the parent knows of it
    with control.makefile("r") as lines:
        line = lines.readline()
    if not line:
        return  # whoever started this is gone
    orders = json.loads(line)
    try:
        if orders["join"]:
            _enter(orders["join"], orders["namespaces"])
        else:
            _check(_libc.unshare(sum(KINDS[kind] for kind in orders["namespaces"])), "unshare")
            if orders["join_pids"]:
                _enter(orders["join_pids"], ["pid"])
        # Raw, because no wrapper of Python's has CLONE_PARENT; the child only prepares its exec.
        arguments = (ctypes.c_long(CLONE_PARENT | signal.SIGCHLD), *[ctypes.c_long(0)] * 4)
        child = _check(_libc.syscall(ctypes.c_long(SYS_CLONE[_machine]), *arguments), "clone")
        if child:
            control.sendall(f"pid {child}\n".encode())
            return
        _become(orders)
    except (OSError, ValueError, KeyError) as error:
        control.sendall(f"error {error}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
