"""The gate in front of gRPC: who connects is judged by the kernel's word before a single byte is read.

grpcio offers no peer credentials. So the public socket is accepted here, SO_PEERCRED is checked, and only then are
the bytes carried to gRPC's own socket, which has no name that anyone could connect to.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from agent.csi.publisher import Log
from agent.csi.rpc import error_type
from agent.sockets import peer_of
from telemetry.logkeys import Event

ACCEPTS_A_ROUND = 32
PAUSE_S = 0.1
"""How long accepting rests when the process has no descriptor left, instead of spinning."""


class Gate:
    """Accepts on one listening socket and carries what may pass to the socket at `inner` (a path)."""

    def __init__(self, listener: socket.socket, inner: str, allowed_uid: int, log: Log) -> None:
        """`listener` is non-blocking and stays its owner's to close, after `close`."""
        self._listener = listener
        self._inner = inner
        self._allowed_uid = allowed_uid
        self._log = log
        self._ends: set[_End] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._open = False

    def open(self) -> None:
        """Begin to accept, on the running loop."""
        self._open = True
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; connections that were let through stay. Idempotent."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
        if self._pause is not None:
            self._pause.cancel()

    async def drained(self, timeout_s: float) -> None:
        """Let what gRPC said last reach its callers, for up to `timeout_s` seconds, then cut what is left."""
        for task in self._tasks:
            task.cancel()
        if self._ends:
            await asyncio.wait([end.gone for end in self._ends], timeout=timeout_s)
        for end in list(self._ends):
            end.cut()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_ROUND):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._log.error(Event.CANNOT_ACCEPT, error_type=error_type(error))
                self._rest()
                return
            sock.setblocking(False)
            if self._may_pass(sock):
                task = asyncio.create_task(self._carry(sock))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                sock.close()

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener.fileno())
        self._open = False
        self._pause = loop.call_later(PAUSE_S, self.open)

    def _may_pass(self, sock: socket.socket) -> bool:
        try:
            peer = peer_of(sock)
        except OSError:
            return False
        if peer.uid == self._allowed_uid:
            return True
        self._log.warning(Event.PEER_REFUSED, peer_uid=peer.uid, peer_pid=peer.pid)
        return False

    async def _carry(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        inside, outside = _End(self._ends), _End(self._ends)
        inside.other, outside.other = outside, inside
        try:
            await loop.create_unix_connection(lambda: inside, self._inner)
            await loop.connect_accepted_socket(lambda: outside, sock)
        except (OSError, asyncio.CancelledError) as error:
            sock.close()
            inside.cut()
            if isinstance(error, asyncio.CancelledError):
                raise
            self._log.error(Event.CANNOT_REACH_GRPC, error_type=error_type(error))


class _End(asyncio.Protocol):
    """One end of a carried connection: what comes in here goes out there, as fast as there takes it."""

    other: _End

    def __init__(self, registry: set[_End]) -> None:
        self.gone = asyncio.get_running_loop().create_future()
        self._registry = registry
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not by isinstance: uvloop's transports are no subclass.
        self._transport = cast("asyncio.Transport", transport)
        self._registry.add(self)
        for data in self._early:
            self._transport.write(data)
        self._early.clear()
        if self.other.gone.done():
            self.finish()

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send to this end's peer, or keep it until this end is there (gRPC greets before the relay is complete)."""
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self.other.flow(False)

    def resume_writing(self) -> None:
        self.other.flow(True)

    def flow(self, on: bool) -> None:
        """Go on reading, or stop where the other end does not take more."""
        if self._transport is not None and not self._transport.is_closing():
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone.set_result(None)
        self._registry.discard(self)
        self.other.finish()

    def finish(self) -> None:
        """Close after what is still to be sent was sent."""
        if self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()
