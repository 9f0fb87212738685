"""A unix socket that only root can talk to: 0600 in a 0700 folder, and the peer's credentials checked before a byte is
read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agent.errors import Code, Refused
from agent.observe.logkeys import Event
from agent.observe.logs import get_logger

ROOT = 0
SOCKET_PATH_BYTES = 107
_UCRED = struct.Struct("iII")
_REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

log = get_logger("observe")


class Peer(NamedTuple):
    """Who is at the other end, as the kernel knows it (SO_PEERCRED, taken when the peer connected)."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """The peer's credentials; raises OSError where the socket is no connected unix socket."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def private_folder(path: Path) -> None:
    """Make the folder (parents too) 0700, or take others' access to it away; raises Refused if it is not ours."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused(Code.FAILED_PRECONDITION, str(path), "is not a folder of the agent's own", "remove it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def listen_privately(path: Path) -> socket.socket:
    """A bound socket, 0600 in a 0700 folder, that does not listen yet. A socket that nobody answers on is replaced.

    Raises Refused: the path is too long, is something else than a socket, or another agent answers there.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise Refused(
            Code.INVALID_ARGUMENT,
            str(path),
            f"a socket's path has at most {SOCKET_PATH_BYTES} bytes",
            "use a shorter one",
        )
    private_folder(path.parent)
    _clear_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(os.fspath(path))
        # Between bind and chmod nobody can connect: it does not listen yet.
        path.chmod(0o600)
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        raise Refused(
            Code.FAILED_PRECONDITION,
            str(path),
            f"cannot be bound ({errno.errorcode.get(problem.errno or 0, 'unknown')})",
        ) from None
    return listener


def _clear_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Refused(Code.FAILED_PRECONDITION, str(path), "is there and is not a socket", "remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        outcome = probe.connect_ex(os.fspath(path))
    if outcome in (0, errno.EAGAIN):
        raise Refused(Code.FAILED_PRECONDITION, str(path), "another agent answers there", "stop it first")
    path.unlink(missing_ok=True)


class RootOnly(asyncio.Protocol):
    """Stands in front of an HTTP protocol and passes on only what comes from uid 0.

    Others get a 403 and not one byte parsed.
    """

    def __init__(self, inner: Callable[[], asyncio.BaseProtocol], allowed_uid: int = ROOT) -> None:
        self._make = inner
        self._allowed_uid = allowed_uid
        self._inner: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Judge the peer."""
        assert isinstance(transport, asyncio.Transport)
        peer = peer_of(transport.get_extra_info("socket"))
        if peer.uid != self._allowed_uid:
            log.warning(Event.PEER_REFUSED, pid=peer.pid, uid=peer.uid)
            transport.write(_REFUSAL)
            transport.close()
            return
        inner = self._make()
        assert isinstance(inner, asyncio.Protocol)
        self._inner = inner
        inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.connection_lost(exc)
