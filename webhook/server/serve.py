"""One port: uvicorn without its own signals, banner, sockets and handshakes, and with a bound on slow clients."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from uvicorn._types import ASGIApplication

from kernelsecret.errors import Code, Refused
from webhook.server.doorway import Doorway
from webhook.server.peer import Connection
from webhook.server.tls import LiveTls

KEEP_ALIVE_S = 120
"""Longer than the API server keeps an idle connection (90 s), so that it is never we who close one that it is about to
use.
"""
PATIENCE_S = 10.0
"""How long a request may take to arrive."""
ANSWER_S = 30.0
"""How long its answer may take, until the client has read it: a review has 5 s at most, an agent waits for 10 s."""
MAX_CONNECTIONS = 1024
"""Idle ones beyond that go, the quietest first, so that whoever only opens connections does not keep others out."""
_BACKLOG = 1024
_TICKS_BETWEEN_SWEEPS = 10


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens at the address. Raises Refused that names `setting`.

    It listens at once: two sockets can be bound to one address, and only that says which of them is late.
    """
    # With the protocol's name: asyncio turns Nagle's delay (40 ms an answer) off only for a socket that says it is TCP.
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise Refused(
            Code.FAILED_PRECONDITION,
            setting,
            f"{host}:{port} cannot be bound ({errno.errorcode.get(error.errno or 0, 'unknown')})",
            "name an address of this host and a free port",
        ) from None
    return bound


class Port(uvicorn.Server):
    """Serves an application on a bound socket. `serve()` returns after `should_exit` was set and all was answered."""

    def __init__(self, application: ASGIApplication, bound: socket.socket, tls: LiveTls, *, finish_s: int) -> None:
        # It warns of every request that is no HTTP: whoever reaches the port could fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                application,
                loop="none",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=2 * MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=finish_s,
            )
        )
        self._bound = bound
        self.doorway = Doorway(bound, tls.listener, self._connection)
        self.listening = asyncio.Event()
        """Set as soon as clients can connect."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._bound.getsockname()[:2]
        return host, port

    async def run_until_told(self) -> None:
        """Serve until `should_exit` is set."""
        # No sockets: uvicorn would have handshakes take 60 s, and any number of them.
        await self.serve(sockets=[])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.doorway.open()
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen no more, and answer what was asked."""
        self.doorway.close()
        await super().shutdown(sockets)
        await self.doorway.end()

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The process's signals are the service's, not a port's."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if counter % _TICKS_BETWEEN_SWEEPS == 0:
            self._sweep()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        self.doorway.sweep()
        made = [one for one in self.server_state.connections if isinstance(one, Connection)]
        late = [one for one in made if one.is_late(PATIENCE_S, ANSWER_S, KEEP_ALIVE_S)]
        excess = len(made) - len(late) - MAX_CONNECTIONS
        if excess > 0:
            idle = [one for one in made if one.is_idle and one not in late]
            late += sorted(idle, key=lambda one: one.quiet_since)[:excess]
        for connection in late:
            connection.transport.abort()
