"""Reading one key of a secret from its file: whole, or not at all.

A file that somebody has open for writing is left alone until it is closed. Whether somebody has is asked with a read
lease (fcntl(2), F_SETLEASE), which the kernel grants only where nobody has, and which makes a writer who comes
meanwhile wait for those microseconds. Where leases do not work, a file that changes while it is read is left alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass, field

from agent.sources.system import open_beneath

MAX_BYTES = 1 << 20
MAX_KEYS = 64
DATA = "..data"

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_NO_LEASES = (errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class Value:
    """The key's whole value, and when its file was last changed (wall clock, ns)."""

    data: bytes = field(repr=False)
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody is writing the file; closing it is an event of its own."""


@dataclass(frozen=True, slots=True)
class Bad:
    """The file cannot be a key: why, and what would mend it."""

    why: str
    fix: str = ""


Outcome = Value | Missing | Busy | Bad


def names_in(folder: int) -> tuple[list[str], dict[str, Bad]]:
    """The keys in a secret's folder, and the names that cannot be keys. Folders and names that start with '..' are no
    keys. Raises OSError."""
    names: list[str] = []
    bad: dict[str, Bad] = {}
    # A descriptor of its own: scandir moves the position of the one that it is given.
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(own) as entries:
            for entry in entries:
                if entry.name.startswith("..") or entry.is_dir(follow_symlinks=False):
                    continue
                if problem := name_problem(entry.name):
                    bad[entry.name] = problem
                else:
                    names.append(entry.name)
    finally:
        os.close(own)
    return sorted(names), bad


def name_problem(name: str) -> Bad | None:
    """Why a file's name (as os.fsdecode gives it) cannot be a key, None if it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return Bad("the name is not UTF-8", "rename it")
    if any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in name):
        return Bad("the name has a control character", "rename it")
    return None


def take(folder: int, name: str) -> Outcome:
    """Read a key below a secret's folder (a descriptor). Raises OSError where the node is at fault, not the file."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if problem := name_problem(name):
            return problem
        if stat.S_ISLNK(found.st_mode) and (problem := _link_problem(os.readlink(name, dir_fd=folder))):
            return problem
        if not stat.S_ISLNK(found.st_mode) and not stat.S_ISREG(found.st_mode):
            return Bad("not a regular file")
        fd = open_beneath(folder, name, _FLAGS, links=True)
    except OSError as error:
        return _unopened(error)
    try:
        return _take(fd)
    finally:
        os.close(fd)


def _link_problem(target: str) -> Bad | None:
    """A link may lead where changes are seen: to a file beside it, or into `..data`, as kubelet's writer lays them."""
    parts = target.split("/")
    if len(parts) == 1 or (len(parts) == 2 and parts[0] == DATA):
        return None
    return Bad("a symbolic link that leads out of the secret's folder", f"link to {DATA}/NAME, or put a file there")


def _unopened(error: OSError) -> Outcome:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Missing()
    if error.errno == errno.EXDEV:
        return Bad("a symbolic link that leads out of the secret's folder", f"link to {DATA}/NAME, or put a file there")
    if error.errno == errno.ELOOP:
        return Bad("a symbolic link that leads in a circle")
    if error.errno in (errno.EACCES, errno.ENXIO, errno.EIO, errno.ESTALE):
        return Bad(f"cannot be read ({os.strerror(error.errno)})")
    if error.errno == errno.EWOULDBLOCK:
        return Busy()
    raise error


def _take(fd: int) -> Outcome:
    # Taken first: from here to the close nobody can begin to write.
    if not _quiet(fd):
        return Busy()
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        return Bad("not a regular file")
    if before.st_size > MAX_BYTES:
        return Bad(f"has {before.st_size} bytes, more than {MAX_BYTES}")
    data = _read_all(fd)
    after = os.fstat(fd)
    if len(data) != after.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Busy()
    return Value(data, after.st_mtime_ns)


def _quiet(fd: int) -> bool:
    """Whether nobody has the file open for writing, and until `fd` is closed nobody gets to."""
    try:
        # A writer who waits for the lease is announced by this signal, which does nothing, not by SIGIO, which kills.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return False
        if error.errno not in _NO_LEASES:
            raise
    return True


def _read_all(fd: int) -> bytes:
    pieces = []
    left = MAX_BYTES + 1
    while left and (piece := os.read(fd, left)):
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
