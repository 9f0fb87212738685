"""Finding and telling processes of a pod: executables by path as the container sees it, and signals by pidfd.

A pid can be another process a moment later, so every act goes through a pidfd, and what was found is checked again
after it was opened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL, Structure, byref, c_char_p, c_int, c_long, c_size_t, c_uint64, sizeof
from dataclasses import dataclass

from agent.delivery import mounts

SYS_OPENAT2 = 437
RESOLVE_IN_ROOT = 0x10
O_PATH = os.O_PATH | os.O_CLOEXEC

_libc = CDLL(None, use_errno=True)
_libc.syscall.restype = c_long


class _OpenHow(Structure):
    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


@dataclass(frozen=True, slots=True)
class Executable:
    """A file as the kernel's programs see it: inode, and device of its superblock."""

    inode: int
    device: int


@contextmanager
def opened(pid: int) -> Iterator[int | None]:
    """A pidfd of a process, or None where it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def find_executable(pid: int, path: str) -> Executable | None:
    """The file at `path` in the process's root, links resolved there only; None without one."""
    try:
        root = os.open(f"/proc/{pid}/root", O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        how = _OpenHow(O_PATH, 0, RESOLVE_IN_ROOT)
        arguments = (c_int(root), c_char_p(os.fsencode(path)), byref(how), c_size_t(sizeof(how)))
        fd = _libc.syscall(c_long(SYS_OPENAT2), *arguments)
    finally:
        os.close(root)
    if fd < 0:
        return None
    try:
        return _identify(fd, f"/proc/{pid}/mountinfo")
    finally:
        os.close(fd)


def running_executable(pid: int) -> Executable | None:
    """What a process executes; None where it is gone or has no program (a kernel thread)."""
    try:
        fd = os.open(f"/proc/{pid}/exe", O_PATH)
    except OSError:
        return None
    try:
        return _identify(fd, f"/proc/{pid}/mountinfo")
    finally:
        os.close(fd)


def _identify(fd: int, mountinfo: str) -> Executable | None:
    """stat() may show other numbers than the kernel keeps (overlayfs), so they come from fdinfo and mountinfo."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        info = dict(line.split(":", 1) for line in lines if ":" in line)
    mount_id = int(info["mnt_id"])
    inode = int(info["ino"]) if "ino" in info else os.fstat(fd).st_ino
    with suppress(OSError):
        if mount := mounts.find_mount(mountinfo, mount_id, mounts.MOST_OF_OTHERS):
            return Executable(inode, mount.device)
    device = os.fstat(fd).st_dev
    return Executable(inode, os.major(device) << 20 | os.minor(device))


def is_first(pid: int) -> bool:
    """Whether a process is the first of its container: of a namespace of pids right below the agent's own."""
    try:
        with open(f"/proc/{pid}/status", "rb") as lines:  # a process chooses its name: any bytes but a line's end
            numbers = next((line.split()[1:] for line in lines if line.startswith(b"NSpid:")), [])
    except OSError:
        return False
    return len(numbers) == 2 and numbers[1] == b"1"


def has_mounted(pid: int, device: int) -> bool:
    """Whether a process has a file system in its mount namespace; `device` is that of mountinfo."""
    with suppress(OSError):
        found = mounts.read_mounts(f"/proc/{pid}/mountinfo", mounts.MOST_OF_OTHERS)
        return any(mount.device == device for mount in found)
    return False


def resume(pid: int) -> None:
    """Let a process that was stopped go on; one that is gone is no error."""
    send(pid, signal.SIGCONT)


def send(pid: int, number: int) -> bool:
    """Send a signal; False where the process is gone."""
    with opened(pid) as pidfd:
        if pidfd is None:
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
            return True
        return False
