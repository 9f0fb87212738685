"""The end of a version of ordinary files, under readers who may be in the middle of it.

Whoever has a file open, or mapped, goes on with the bytes that were there: a value that turned into zeros between open
and read would be worse than an old one. What nobody has open is overwritten before its memory is given back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path


def retire(version: Path, *, is_shown_elsewhere: bool = False) -> None:
    """Remove a version's folder. `is_shown_elsewhere`: its files may be mounts of their own (subPath), which nobody
    sees from here, so nothing is overwritten."""
    held = [] if is_shown_elsewhere else _opened(version)
    shutil.rmtree(version, ignore_errors=True)  # first the names: from here on nobody opens what is judged below
    for fd in held:
        with suppress(OSError):
            if _is_ours_alone(fd):
                os.pwrite(fd, bytes(os.fstat(fd).st_size), 0)
        os.close(fd)


def _opened(version: Path) -> list[int]:
    found = []
    for path in version.iterdir():
        with suppress(OSError):  # one that was closed (a device that nothing drives), or that a reader has a lease on
            found.append(open_at_once(path, os.O_RDWR))
    return found


def open_at_once(path: Path, flags: int) -> int:
    """A file that a pod's programs see, too. Whoever owns it may have a lease on it: an open that breaks one would wait
    for as long as they like, up to 45 s. This raises BlockingIOError instead."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


def overwrite(version: Path) -> None:
    """Turn every value of a version into zeros, also under those who have it open, unless by a lease."""
    for path in version.iterdir():
        with suppress(OSError), open(open_at_once(path, os.O_WRONLY), "wb") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))


def _is_ours_alone(fd: int) -> bool:
    """Whether nobody else has the file open: the kernel gives a lease for writing only then. Mappings count as open."""
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # one that is ignored, should the lease be broken before the close
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    return True
