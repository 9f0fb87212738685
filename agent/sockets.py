"""Listening sockets in folders that nobody else can enter, made private before they have a name; and who connected to
them.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kernelsecret.errors import Code, Refused

FOLDER_MODE = 0o700
SHARED_FOLDER_MODE = 0o750
SOCKET_MODE = 0o600
BACKLOG = 128
MAX_PATH = 107
"""Bytes of a unix socket's path on Linux."""

# struct ucred: pid_t, uid_t, gid_t.
_UCRED = struct.Struct("iII")


class Peer(NamedTuple):
    """Who was at the other end when it connected, in the agent's own namespaces (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """The kernel's word on who connected. Raises OSError where the socket is no connected unix socket."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening, non-blocking socket and the file that names it."""

    path: Path
    sock: socket.socket
    inode: int

    def close(self) -> None:
        """Stop listening and remove the file, unless another agent has put its own there. Idempotent."""
        self.remove()
        self.sock.close()

    def remove(self) -> None:
        """Remove the file only, as `close` does, before someone else closes the socket (asyncio's servers do)."""
        with suppress(FileNotFoundError):
            # Compared while the socket is still open, which keeps its inode number from being given to another.
            if self.sock.fileno() >= 0 and self.path.lstat().st_ino == self.inode:
                self.path.unlink()


def private_folder(path: Path) -> None:
    """Make or tighten a folder of our own to mode 0700. Raises Refused where it is someone else's or a symlink."""
    found = _folder(path, FOLDER_MODE, owners={os.geteuid()}, whose="the agent's own")
    if stat.S_IMODE(found.st_mode) != FOLDER_MODE:
        path.chmod(FOLDER_MODE)


def shared_folder(path: Path) -> None:
    """Check kubelet's folder, made if missing: ours or root's, and writable by nobody else. Raises Refused."""
    found = _folder(path, SHARED_FOLDER_MODE, owners={0, os.geteuid()}, whose="root's or the agent's")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refused(path, "its group or others can write in it", f"chmod go-w {path}")


def lock(path: Path) -> int:
    """Hold a lock file as long as the returned descriptor is open. Raises Refused where another agent holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise _refused(path, "held by another agent on this node", "stop it first") from None
    return fd


def listen(path: Path) -> Listener:
    """Listen on a new socket file of mode 0600, in place of one that a dead process left behind.

    Raises Refused where a live process listens there, or where something else than a socket is in the way.
    """
    _check_length(path)
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # The file that bind() makes takes the mode of the socket itself, so it is private from its first moment.
        os.fchmod(sock.fileno(), SOCKET_MODE)
        sock.bind(str(path))
        found = path.lstat()
        if stat.S_IMODE(found.st_mode) & ~SOCKET_MODE:
            raise _refused(path, f"its file system made it with mode {stat.S_IMODE(found.st_mode):04o}")
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(path, f"cannot listen there ({error.strerror})") from error
    except Refused:
        sock.close()
        raise
    return Listener(path, sock, found.st_ino)


def listen_privately(path: Path) -> Listener:
    """`listen` in a folder made or tightened by `private_folder`. Raises Refused, before anything is made if the path
    is too long.
    """
    _check_length(path)
    private_folder(path.parent)
    return listen(path)


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_PATH:
        why = f"longer than the {MAX_PATH} bytes of a unix socket's path"
        raise Refused(Code.INVALID_ARGUMENT, str(path), why, "use a shorter one")


def _folder(path: Path, mode: int, owners: set[int], whose: str) -> os.stat_result:
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise _refused(path, f"cannot be made ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(path, f"not a folder of {whose} but a symlink", "remove it")
    if found.st_uid not in owners:
        raise _refused(path, f"not a folder of {whose} but of user {found.st_uid}", "chown it or remove it")
    return found


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(path, "something else than a socket is there", "move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:  # alive, its queue is full
            pass
        except OSError as error:  # of another type, or not ours to call: nothing says that it is dead
            raise _refused(path, f"cannot be tried ({error.strerror})", "remove it") from error
    raise _refused(path, "a live process listens there", "stop it first")


def _refused(path: Path, why: str, fix: str = "") -> Refused:
    return Refused(Code.FAILED_PRECONDITION, str(path), why, fix)
