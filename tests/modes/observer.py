"""A program of a pod that tries ways to read a secret file and says what it met. Standard library only.

A question is a JSON line, `[name, path]`; its answer one line. `hold` and `watch` begin something that `held` and
`seen` ask about after a rotation.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from collections.abc import Callable
from json import loads
from pathlib import Path

EVENTS = {2: "IN_MODIFY", 4: "IN_ATTRIB", 128: "IN_MOVED_TO", 1024: "IN_DELETE_SELF"}
"""Those that tell of a rotation; the others come with the way of a replacement and differ."""
HEADER = struct.Struct("=iIII")
libc = ctypes.CDLL(None, use_errno=True)


class Observer:
    """What is begun stays open until the program ends."""

    def __init__(self) -> None:
        self.fd = -1
        self.mapping = -1
        self.watch_fd = -1

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def size(self, path: str) -> str:
        return "true" if os.stat(path).st_size == len(Path(path).read_bytes()) else "false"

    def map(self, path: str) -> str:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            return "works" if mapped[:] == Path(path).read_bytes() else "wrong"

    def seek(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY)
        os.lseek(fd, 1, os.SEEK_SET)
        return "works" if os.read(fd, 100) == Path(path).read_bytes()[1:] else "wrong"

    def pread(self, path: str) -> str:
        return "works" if os.pread(os.open(path, os.O_RDONLY), 100, 1) == Path(path).read_bytes()[1:] else "wrong"

    def sendfile(self, path: str) -> str:
        into = os.memfd_create("into")
        sent = os.sendfile(into, os.open(path, os.O_RDONLY), 0, 100)
        return "works" if os.pread(into, 100, 0) == Path(path).read_bytes()[:sent] else "wrong"

    def hold(self, path: str) -> str:
        self.fd = os.open(path, os.O_RDONLY)
        return os.read(self.fd, 100).decode()

    def held(self, path: str) -> str:
        """By what the descriptor gives after a rewind."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        return "the new value" if os.read(self.fd, 100) == Path(path).read_bytes() else "the old value"

    def let_go(self, path: str) -> str:
        """Of what is held, or the inode of an old value stays."""
        del path
        os.close(self.fd)
        return "closed"

    def watch(self, path: str) -> str:
        self.watch_fd = libc.inotify_init1(os.O_NONBLOCK)
        wanted = sum(EVENTS)
        return "watched" if libc.inotify_add_watch(self.watch_fd, path.encode(), wanted) >= 0 else "not watched"

    def seen(self, path: str) -> str:
        """The events that came; nothing that is read here waits."""
        del path
        found = set()
        try:
            data = os.read(self.watch_fd, 1 << 16)
        except BlockingIOError:
            return "none"
        while data:
            _, mask, _, length = HEADER.unpack_from(data)
            found |= {name for bit, name in EVENTS.items() if mask & bit}
            data = data[HEADER.size + length :]
        return ", ".join(sorted(found))


def answer(observer: Observer, name: str, path: str) -> str:
    """In one word or a few; an error by its name."""
    ask: Callable[[str], str] = getattr(observer, name)
    try:
        return ask(path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


if __name__ == "__main__":
    one = Observer()
    for line in sys.stdin:
        sys.stdout.write(answer(one, *loads(line)) + "\n")
        sys.stdout.flush()
