"""A listening socket whose connections each begin with the newest TLS context.

Strangers cost little: few handshakes go on at once, each has a short time, the next ones wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable

from kernelsecret.errors import Code, Refused, said
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

HANDSHAKES = 32
HANDSHAKE_S = 3.0
PAUSE_S = 0.1
"""How long accepting rests when the process has no descriptor left, instead of spinning."""
_BACKLOG = 128

log = get_logger("registrations")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket at an IP address. Raises Refused where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        why = f"{host}:{port} cannot be bound ({errno.errorcode.get(error.errno or 0, 'unknown')})"
        fix = "name an address of this node and a free port"
        raise Refused(Code.FAILED_PRECONDITION, "registrations address", why, fix) from None
    return bound


class TlsListener:
    """Accepts on `bound`, shakes hands by `context()` (None: the connection ends), and makes `protocol()` talk."""

    def __init__(
        self,
        bound: socket.socket,
        context: Callable[[], ssl.SSLContext | None],
        protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._socket, self._context, self._protocol = bound, context, protocol
        self._slots = asyncio.Semaphore(HANDSHAKES)
        self._accepting: asyncio.Task[None] | None = None
        self._greetings: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Accept from now on, on the running loop."""
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more; connections that were made stay. Idempotent."""
        if self._accepting is None:
            return
        tasks = [self._accepting, *self._greetings]
        self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                self._slots.release()
                if error.errno != errno.ECONNABORTED:
                    log.error(Event.CANNOT_ACCEPT, **problem(error))
                    await asyncio.sleep(PAUSE_S)
                continue
            task = asyncio.create_task(self._greet(connection))
            self._greetings.add(task)
            task.add_done_callback(self._greeted)

    def _greeted(self, task: asyncio.Task[None]) -> None:
        self._greetings.discard(task)
        self._slots.release()

    async def _greet(self, connection: socket.socket) -> None:
        context = self._context()
        if context is None:
            connection.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ssl.SSLError) as error:
            connection.close()
            log.debug(Event.PEER_REFUSED, reason=said(error))
