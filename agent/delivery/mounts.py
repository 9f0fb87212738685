"""The mount calls that volumes need, and nothing else of mount(2). The parser of mountinfo is pure.

The new mount API (open_tree, mount_setattr, move_mount; Linux 5.12) lets a volume appear at its target read-only from
its first instant, instead of writable and then remounted.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernelsecret.errors import KernelSecretError

NOSUID, NODEV, NOEXEC, REMOUNT, BIND, PRIVATE = 2, 4, 8, 32, 4096, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
ATTR_IDMAP = 0x100000
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
SOURCE = "kernelsecret"
"""How our mounts call their source in mountinfo."""
QUIET = NOSUID | NODEV | NOEXEC
MOST_OF_OTHERS = 1 << 20
"""Bytes that are read of the mounts of a pod's process: those that its container began with come first, and whoever has
a user namespace can add 100,000, with names of 16 KB."""

_libc = ctypes.CDLL(None, use_errno=True)
_count: Callable[[str, int], None] = lambda call, number: None  # noqa: E731 (replaced by count_with)


class MountError(KernelSecretError):
    """A mount call failed; `errno` says why."""

    def __init__(self, call: str, number: int, path: str) -> None:
        self.call = call
        self.errno = number
        super().__init__(f"{call} {path}: {os.strerror(number)}")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where it is, what is mounted, the superblock's device as the kernel counts it, and which
    folder of it is shown (`root`)."""

    mount_id: int
    point: str
    kind: str
    device: int
    source: str = ""
    root: str = "/"


def count_with(count: Callable[[str, int], None]) -> None:
    """Tell `count(call, errno)` of every call from now on; errno is 0 where it worked."""
    global _count
    _count = count


def _checked(call: str, result: int, path: str) -> int:
    number = ctypes.get_errno() if result < 0 else 0
    _count(call, number)
    if result < 0:
        raise MountError(call, number, path)
    return result


def mount_new(kind: str, point: Path, options: str = "", flags: int = QUIET) -> None:
    """Mount a fresh file system of `kind` (tmpfs, bpf) at an existing directory."""
    result = _libc.mount(SOURCE.encode(), os.fsencode(point), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked("mount", result, str(point))


def reconfigure(point: Path, options: str, flags: int = QUIET) -> None:
    """Give the file system that is mounted there these options; the others stay."""
    result = _libc.mount(None, os.fsencode(point), None, ctypes.c_ulong(REMOUNT | flags), options.encode())
    _checked("mount", result, str(point))


def mount_folder_of_new(kind: str, point: Path, folder: str, options: str = "") -> None:
    """Mount a fresh file system's one folder, so that what the kernel puts beside it stays out of sight.

    Kernels with BPF preload put `maps.debug` and `progs.debug` into every new bpffs, and their names cannot be removed.
    """
    mount_new(kind, point, options)
    try:
        (point / folder).mkdir()
        tree = _open_tree(point / folder)
    finally:
        unmount(point)
    try:
        _move(tree, os.fsencode(point), AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _open_tree(path: Path) -> int:
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    return _checked("open_tree", _libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags), str(path))


def _move(tree: int, path: bytes, directory: int, flags: int) -> None:
    _checked("move_mount", _libc.syscall(SYS_MOVE_MOUNT, tree, b"", directory, path, flags), os.fsdecode(path))


def clone_idmapped(source: Path, user_ns: int) -> int:
    """A copy of the mount at a path, of no place yet, that shows owners as the user namespace maps them: what a
    container's runtime makes of a volume for a pod with a user namespace of its own. A descriptor for the caller."""
    tree = _open_tree(source)
    try:
        attributes = (ctypes.c_uint64 * 4)(ATTR_IDMAP, 0, 0, user_ns)
        size = ctypes.sizeof(attributes)
        result = _libc.syscall(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, size)
        _checked("mount_setattr", result, str(source))
    except BaseException:
        os.close(tree)
        raise
    return tree


def make_private(directory: Path) -> None:
    """Bind a directory onto itself and keep what is mounted below it out of every other mount namespace."""
    path = os.fsencode(directory)
    _checked("mount", _libc.mount(path, path, None, ctypes.c_ulong(BIND), None), str(directory))
    _checked("mount", _libc.mount(None, path, None, ctypes.c_ulong(PRIVATE), None), str(directory))


def show(source: Path, target: Path, *, executable: bool = False) -> None:
    """Show a tree of mounts at an existing folder: read-only, nosuid, nodev and, unless `executable`, noexec from its
    first instant.

    Nothing is done where it is shown there already, or another folder of the same file system.
    """
    quiet = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | (0 if executable else ATTR_NOEXEC)
    directory = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(directory).st_dev == os.stat(source).st_dev:
            return
        tree = _open_tree(source)
        try:
            attributes = (ctypes.c_uint64 * 4)(quiet, 0, PRIVATE, 0)
            flags, size = AT_EMPTY_PATH | AT_RECURSIVE, ctypes.sizeof(attributes)
            result = _libc.syscall(SYS_MOUNT_SETATTR, tree, b"", flags, attributes, size)
            _checked("mount_setattr", result, str(source))
            _move(tree, b"", directory, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(tree)
    finally:
        os.close(directory)


def is_mounted(folder: Path) -> bool:
    """Whether a file system of its own is mounted at an existing folder."""
    return folder.stat().st_dev != folder.parent.stat().st_dev


def unmount(point: str | Path) -> None:
    """Take away the mount at a path, also where something still has a file of it open."""
    _checked("umount2", _libc.umount2(os.fsencode(point), MNT_DETACH | UMOUNT_NOFOLLOW), str(point))


def parse_mountinfo(text: str) -> list[Mount]:
    """Every mount, in the order of mounting."""
    mounts = []
    for line in text.split("\n"):  # the only end of a line that the kernel escapes in a name
        left, _, right = line.partition(" - ")
        fields, super_block = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(super_block) < 2:
            continue
        major, _, minor = fields[2].partition(":")
        device, root = int(major) << 20 | int(minor), unescape(fields[3])
        mounts.append(Mount(int(fields[0]), unescape(fields[4]), super_block[0], device, super_block[1], root))
    return mounts


def unescape(text: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def read_mounts(mountinfo: str = "/proc/self/mountinfo", most: int = -1) -> list[Mount]:
    """The mounts of this mount namespace, or of another process's: there name the `most` bytes that are to be read."""
    with open(mountinfo, "rb") as file:
        return parse_mountinfo(os.fsdecode(file.read(most)))


def find_mount(mountinfo: str, mount_id: int, most: int) -> Mount | None:
    """The mount of that id among the first `most` bytes; of the others nothing is parsed, since there may be many."""
    begins = b"%d " % mount_id
    with open(mountinfo, "rb") as file:
        lines = [line for line in file.read(most).split(b"\n") if line.startswith(begins)]
    return next(iter(parse_mountinfo(os.fsdecode(b"\n".join(lines)))), None)


def mounts_below(directory: Path, mounts: list[Mount]) -> list[str]:
    """Mount points at or below a directory, innermost and newest first: the order to unmount them in."""
    prefix = str(directory)
    found = [mount.point for mount in mounts if mount.point == prefix or mount.point.startswith(prefix + "/")]
    return list(reversed(found))
