"""What resolver and supervisor say to each other, over a pair of unix sockets that keep messages whole.

The plan comes first. Then the resolver sends values: names, and a descriptor for each of them; never a value itself.
The supervisor answers by the number of the last message that COMMAND was started with. The end of the pair is the end
of the other side, also where that was killed.
"""

from __future__ import annotations

import array
import socket
from typing import Final

import msgspec

from kernelsecret.cli.run.plan import Plan

_LONGEST: Final = 1 << 20
_MOST: Final = 250
"""Descriptors of one message; the kernel takes 253."""


class Values(msgspec.Struct, frozen=True):
    """New values of these names; `number` counts messages."""

    number: int
    names: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True):
    """Nothing comes: `status` is what to exit with. Why was said."""

    status: int


class _ToSupervisor(msgspec.Struct, frozen=True):
    plan: Plan | None = None
    values: Values | None = None
    failed: Failed | None = None


_DECODER = msgspec.json.Decoder(_ToSupervisor)


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end and the resolver's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, message: Plan | Values | Failed, fds: tuple[int, ...] = ()) -> None:
    """To the supervisor, with a descriptor for each name. Raises OSError: BlockingIOError where it does not listen."""
    whole = _ToSupervisor(
        plan=message if isinstance(message, Plan) else None,
        values=message if isinstance(message, Values) else None,
        failed=message if isinstance(message, Failed) else None,
    )
    socket.send_fds(end, [msgspec.json.encode(whole)], list(fds))


def receive(end: socket.socket) -> tuple[Plan | Values | Failed | None, tuple[int, ...]]:
    """The next message and its descriptors, closed over an exec; None where the other side has ended."""
    try:
        data, ancillary, _flags, _address = end.recvmsg(
            _LONGEST, socket.CMSG_LEN(_MOST * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return None, ()
    fds = array.array("i")
    for level, kind, bytes_ in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(bytes_[: len(bytes_) - len(bytes_) % fds.itemsize])
    if not data:
        return None, ()
    whole = _DECODER.decode(data)
    return whole.plan or whole.values or whole.failed, tuple(fds)


def started(end: socket.socket, number: int) -> None:
    """Tell the resolver that COMMAND runs with the values up to this message."""
    end.send(str(number).encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


def heard(end: socket.socket) -> int | None:
    """What `started` said; None where the supervisor has ended. Raises BlockingIOError where nothing is there."""
    try:
        data = end.recv(64)
    except ConnectionError:
        return None
    return int(data) if data else None
