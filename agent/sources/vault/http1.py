"""HTTP/1.1 as far as Vault speaks it: requests with a length, answers with a length or in chunks, on kept connections.

Ours, because 500 polls a second are to cost less than a fifth of a core: docs/decisions has the figures. It knows
nothing of Vault, of tokens or of proxies, follows nothing and stores nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Final

from agent.sources.vault.reply_parser import HttpError, Parser, Reply

_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,
}


class Connection(asyncio.Protocol):
    """One connection, one request at a time. It is in `live` for as long as it is open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, live: set[Connection]) -> None:
        self._loop = loop
        self._live = live
        self._parser = Parser()
        self._waiting: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self._lost_by: Exception | None = None
        self._born = self._asked = loop.time()

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent on it."""
        is_open = self._transport is not None and not self._transport.is_closing()
        return is_open and self._waiting is None and self._parser.is_fresh

    @property
    def age_s(self) -> float:
        """Since it was made."""
        return self._loop.time() - self._born

    @property
    def waits_s(self) -> float:
        """For how long an answer has been waited for; 0 where none is."""
        return self._loop.time() - self._asked if self._waiting is not None else 0.0

    def notice_a_dead_peer(self) -> None:
        """Let the kernel end it within half a minute when its peer is gone without a word."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    async def ask(self, request: bytes, within_s: float) -> Reply:
        """Send a request and wait for its answer. Raises HttpError, TimeoutError, OSError."""
        if self._transport is None:  # between its making and now: a server may look at the client's certificate late
            raise self._cut(self._lost_by)
        waiting: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting, self._asked = waiting, self._loop.time()
        timer = self._loop.call_later(within_s, self._expire)
        try:
            self._transport.write(request)
            return await waiting
        except BaseException:
            self.abort()  # what still comes would be taken for the answer to the next one
            raise
        finally:
            timer.cancel()
            self._waiting = None

    def close(self) -> None:
        """End it in order."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._live.add(self)

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        if self._waiting is None or self._waiting.done():
            self.abort()  # nobody asked, or whoever did has an answer or gave up: it would be taken for the next one's
            return
        try:
            reply = self._parser.feed(data)
        except HttpError as error:
            self._fail(error)
            self.abort()
            return
        if reply is not None:
            self._give(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._transport, self._lost_by = None, exc
        self._live.discard(self)
        if self._waiting is None or self._waiting.done():
            return
        if exc is None and (reply := self._parser.end()) is not None:
            self._give(reply)
            return
        self._fail(self._cut(exc))

    def _cut(self, by: Exception | None) -> HttpError:
        cut = HttpError("the connection ended before the answer did", cut=True, unanswered=self._parser.is_fresh)
        cut.__cause__ = by
        return cut

    def _give(self, reply: Reply) -> None:
        if not self._parser.keep or not self._parser.is_fresh:
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def _expire(self) -> None:
        self._fail(TimeoutError())


class Idle:
    """Connections that wait for a request, newest last, so that those that are too many grow old."""

    def __init__(self, *, most: int, age_s: float) -> None:
        self._most = most
        self._age_s = age_s
        self._held: deque[Connection] = deque()

    def take(self) -> Connection | None:
        """The one that was used last, if there is one."""
        while self._held:
            found = self._held.pop()
            if found.is_usable and not self._is_old(found):
                return found
            found.close()
        return None

    def give(self, connection: Connection) -> None:
        """It waits for another request now, unless it is too old or they are too many."""
        if not connection.is_usable or self._is_old(connection) or len(self._held) >= self._most:
            connection.close()
            return
        self._held.append(connection)
        while self._held and self._is_old(self._held[0]):
            self._held.popleft().close()

    def clear(self) -> None:
        """End them all."""
        while self._held:
            self._held.pop().close()

    def _is_old(self, connection: Connection) -> bool:
        return connection.age_s > self._age_s
