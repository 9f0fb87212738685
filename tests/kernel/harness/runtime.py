"""What a container runtime does, in small: cgroup, namespaces, root file system, capabilities, then the program.

Usage: runtime.py JSON (see harness/pods.py for its fields). It runs alone, on the standard library. Its first process
goes back to the node's side, out of the pod's cgroup, and ends with the container.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

NEWNS, NEWPID = 0x20000, 0x20000000
BIND, REC, PRIVATE, RDONLY, REMOUNT = 4096, 16384, 1 << 18, 1, 32
SLAVE, DETACH = 1 << 19, 2
NAMESPACES = (("pid", NEWPID), ("mnt", NEWNS))
PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 1, 24
SYS_PIVOT_ROOT, SYS_CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}[os.uname().machine]
CAPABILITY_VERSION = 0x20080522
# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
# SETFCAP: what container runtimes give by default.
DEFAULT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
LAST_CAPABILITY = 40

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [word.encode() if word is not None else None for word in (source, target, kind)]
    data = options.encode() if options is not None else None
    checked(libc.mount(*words, ctypes.c_ulong(flags), data), f"mount {target}")


def join(procs: str) -> None:
    with open(procs, "w") as file:
        file.write("0")


def make_root(config: dict[str, Any]) -> None:
    root = config["root"]
    mount(None, "/", None, PRIVATE | REC)
    if overlay := config.get("overlay"):
        mount("overlay", root, "overlay", 0, overlay)
    else:
        mount("tmpfs", root, "tmpfs", 0, "mode=755")
    for name in ("proc", "tmp", "dev", "old", "run"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for link, target in config["links"].items():
        os.symlink(target, root + link)
    for source, target, is_read_only in config["mounts"]:
        os.makedirs(root + target, exist_ok=True)
        mount(source, root + target, None, BIND | REC)
        if is_read_only:
            mount(None, root + target, None, BIND | REMOUNT | RDONLY)
    mount("tmpfs", root + "/dev", "tmpfs", 0)
    with open(root + "/dev/null", "w"):
        pass
    mount("/dev/null", root + "/dev/null", None, BIND)
    checked(libc.syscall(SYS_PIVOT_ROOT, root.encode(), (root + "/old").encode()), "pivot_root")
    os.chdir("/")
    mount("proc", "/proc", "proc", 0)
    checked(libc.umount2(b"/old", DETACH), "umount2 /old")
    os.rmdir("/old")


def drop_capabilities(kept: tuple[int, ...]) -> None:
    for number in range(LAST_CAPABILITY + 1):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    bits = sum(1 << number for number in kept)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    checked(libc.syscall(SYS_CAPSET, header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)), "capset")


def become(config: dict[str, Any]) -> None:
    match config["capabilities"]:
        case "default":
            drop_capabilities(DEFAULT_CAPABILITIES)
        case "none":
            drop_capabilities(())
    if uid := config.get("uid"):
        os.setgroups(config.get("groups", []))
        os.setgid(uid)
        os.setuid(uid)
    os.execv(config["argv"][0], config["argv"])


def enter(config: dict[str, Any]) -> None:
    """As `kubectl exec`: into the namespaces of a container that runs."""
    wanted = config.get("namespaces", ["pid", "mnt"])
    opened = [
        (os.open(f"/proc/{config['enter']}/ns/{name}", os.O_RDONLY), kind)
        for name, kind in NAMESPACES
        if name in wanted
    ]
    for fd, kind in opened:
        checked(libc.setns(fd, kind), "setns")


def main(config: dict[str, Any]) -> int:
    leave = os.open(config["leave"], os.O_WRONLY) if config.get("leave") else -1
    if procs := config.get("join_first"):
        join(procs)
    if config.get("enter"):
        procs = config.get("join_last")
        last = os.open(procs, os.O_WRONLY) if procs else -1
        enter(config)
        if procs:
            os.write(last, b"0")
    else:
        if config.get("pid_ns_of"):
            checked(libc.setns(os.open(f"/proc/{config['pid_ns_of']}/ns/pid", os.O_RDONLY), NEWPID), "setns")
        checked(libc.unshare(NEWNS | (NEWPID if config.get("new_pid_ns") else 0)), "unshare")
    child = os.fork()
    if child == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if config.get("plain"):
            mount(None, "/", None, SLAVE | REC)
            mount("proc", "/proc", "proc", 0)
        elif not config.get("enter"):
            make_root(config)
        become(config)
    if leave >= 0:
        os.write(leave, b"0")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])) & 0xFF)
