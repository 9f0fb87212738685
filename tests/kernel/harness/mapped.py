"""A pod with a user namespace of its own, in small: `hostUsers: false`.

Usage: mapped.py FD. It runs alone, on the standard library: enters a user and a mount namespace, says so on the socket
FD, gets its ids from outside and then the volume's mount, which it attaches at /mnt. Then each line that it is sent is
[uid, groups, path], and it answers as that user of its namespace: [bytes or errno's name, owner, group, mode].
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import sys
from typing import Any

NEWUSER, NEWNS = 0x10000000, 0x20000
SYS_MOVE_MOUNT, AT_FDCWD, FROM_FD = 429, -100, 0x4

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def look(path: str) -> list[Any]:
    found = os.stat(path)
    owners = [found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)]
    try:
        with open(path, "rb") as file:
            return [file.read().decode(), *owners]
    except OSError as error:
        return [errno.errorcode[error.errno or 0], *owners]


def answer(uid: int, groups: list[int], path: str, output: int) -> None:
    """In a process of its own, which gives its rights away."""
    os.setgroups(groups)
    os.setresgid(groups[0] if groups else uid, groups[0] if groups else uid, groups[0] if groups else uid)
    os.setresuid(uid, uid, uid)
    os.write(output, json.dumps(look(path)).encode())
    os._exit(0)


def main() -> None:
    door = socket.socket(fileno=int(sys.argv[1]))
    checked(libc.unshare(NEWUSER | NEWNS))
    door.send(b"entered")
    _, fds, _, _ = socket.recv_fds(door, 16, 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    checked(libc.syscall(SYS_MOVE_MOUNT, fds[0], b"", AT_FDCWD, b"/mnt", FROM_FD))
    door.send(b"attached")
    while order := door.recv(4096):
        uid, groups, path = json.loads(order)
        reading, writing = os.pipe()
        if os.fork() == 0:
            answer(uid, groups, path, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as result:
            text = result.read()
        os.wait()
        door.send(text or b'["died", 0, 0, 0]')


if __name__ == "__main__":
    main()
