"""The two doors into the kernel that Python does not have: openat2(2) and inotify(7). Thin; decisions are elsewhere."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from enum import IntFlag

_libc = ctypes.CDLL(None, use_errno=True)
_OPENAT2 = 437
"""The same number on every architecture."""

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
_TRIES = 16


class In(IntFlag):
    """Bits of inotify(7)."""

    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x01000000
    EXCL_UNLINK = 0x04000000
    ISDIR = 0x40000000


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the watch it is of (-1 where the queue overflowed), what happened, to which name. The two halves
    of a rename have one cookie."""

    watch: int
    mask: int
    name: bytes
    cookie: int = 0


_EVENT = struct.Struct("=iIII")


def events_of(buffer: bytes) -> list[Event]:
    """The events in what was read from an inotify descriptor."""
    events = []
    offset = 0
    while offset + _EVENT.size <= len(buffer):
        watch, mask, cookie, length = _EVENT.unpack_from(buffer, offset)
        offset += _EVENT.size
        name = buffer[offset : offset + length].rstrip(b"\0")
        offset += length
        events.append(Event(watch, mask, name, cookie))
    return events


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: str, flags: int, *, links: bool) -> int:
    """Open a path that cannot lead out of `folder`, through symbolic links only with `links`. Raises OSError: EXDEV
    for a way out, ELOOP for a link that is not followed, ENOSYS or EPERM where openat2 may not be called."""
    resolve = RESOLVE_BENEATH | (RESOLVE_NO_MAGICLINKS if links else RESOLVE_NO_SYMLINKS)
    how = _How(flags | os.O_CLOEXEC, 0, resolve)
    encoded = os.fsencode(path)
    error = 0
    for _ in range(_TRIES):
        fd = int(
            _libc.syscall(
                ctypes.c_long(_OPENAT2),
                ctypes.c_int(folder),
                ctypes.c_char_p(encoded),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        # EAGAIN: something was renamed meanwhile, and the kernel will not vouch for '..'.
        if error not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(error, os.strerror(error), path)


class Inotify:
    """One inotify instance, never blocking. Raises OSError as the system calls do."""

    def __init__(self) -> None:
        self.fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self.fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def add(self, folder: int, mask: int) -> int:
        """Watch the folder that a descriptor is open on; the same folder has the same number."""
        path = f"/proc/self/fd/{folder}".encode()
        watch = int(_libc.inotify_add_watch(self.fd, ctypes.c_char_p(path), ctypes.c_uint32(mask)))
        if watch < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return watch

    def remove(self, watch: int) -> None:
        """Stop watching; one that the kernel has already taken away is no error."""
        _libc.inotify_rm_watch(self.fd, ctypes.c_int(watch))

    def read(self, most: int = 1 << 16) -> list[Event]:
        """What is queued, up to `most` bytes of it; nothing where nothing is."""
        try:
            return events_of(os.read(self.fd, most))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Free the instance with all its watches. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
