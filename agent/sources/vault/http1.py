"""HTTP/1.1 as far as Vault speaks it: requests with a length, answers with a length or in chunks, on kept connections.

Ours, because 500 polls a second are to cost less than a fifth of a core: docs/decisions has the figures. It knows
nothing of Vault, of tokens or of proxies, follows nothing and stores nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Final

MAX_HEAD: Final = 64 << 10
MAX_BODY: Final = 4 << 20
_END: Final = b"\r\n\r\n"
_CHUNK_LINE: Final = 4096
"""Bytes of the line before a chunk."""
_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,
}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class HttpError(Exception):
    """No usable answer came. `cut`: the connection ended; `unanswered`: not one byte of an answer was seen on it."""

    def __init__(self, why: str, *, cut: bool = False, unanswered: bool = False) -> None:
        self.cut = cut
        self.unanswered = unanswered
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Names of headers are in lower case."""

    status: int
    headers: dict[bytes, bytes] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: bytes) -> str:
        """The value of a header, empty where it is not there."""
        return self.headers.get(name, b"").decode("latin-1")


class Parser:
    """One answer after the other from the bytes of a connection. Pure."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[bytes, bytes] | None = None
        self._length: int | None = None
        self._chunked = False
        self._body: list[bytes] = []
        self._size = 0
        self._in_chunk = False
        self.keep = True
        """Whether the server keeps the connection."""

    @property
    def is_fresh(self) -> bool:
        """Whether nothing of an answer is here."""
        return self._headers is None and not self._buffer

    def feed(self, data: bytes) -> Reply | None:
        """The answer, once it is whole. Raises HttpError for what is none."""
        self._buffer += data
        if self._headers is None and not self._read_head():
            return None
        if self._chunked:
            return self._reply() if self._read_chunks() else None
        if self._length is None:
            if len(self._buffer) > MAX_BODY:
                raise HttpError(_too_large())
            return None  # it ends with the connection
        if len(self._buffer) < self._length:
            return None
        self._body.append(bytes(self._buffer[: self._length]))
        del self._buffer[: self._length]
        return self._reply()

    def end(self) -> Reply | None:
        """The connection ended: that may be the end of an answer without a length."""
        if self._headers is None or self._length is not None or self._chunked:
            return None
        self._body.append(bytes(self._buffer))
        self._buffer.clear()
        return self._reply()

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(_END)
            if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
                raise HttpError("its headers are too large")
            if end < 0:
                return False
            first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
            del self._buffer[: end + 4]
            version, _, rest = first.partition(b" ")
            if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit() or rest[3:4] not in (b"", b" "):
                raise HttpError("it is not HTTP/1.1")
            self._status = int(rest[:3])
            if self._status >= 200:
                break
        headers: dict[bytes, bytes] = {}
        for line in lines:
            name, colon, value = line.partition(b":")
            name = name.lower()
            if not colon or (name in headers and name in (b"content-length", b"transfer-encoding")):
                raise HttpError("its headers are broken")
            headers[name] = value.strip()
        self._headers = headers
        self.keep = version == b"HTTP/1.1" and headers.get(b"connection", b"").lower() != b"close"
        self._begin_body(headers)
        return True

    def _begin_body(self, headers: dict[bytes, bytes]) -> None:
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        self._chunked = coding is not None
        self._length = None
        if self._status in (204, 304):
            self._chunked, self._length = False, 0
        elif coding is not None:
            if coding.lower() != b"chunked" or length is not None:
                raise HttpError("its headers are broken")
        elif length is not None:
            if not length.isdigit() or len(length) > 15:
                raise HttpError("its headers are broken")
            self._length = int(length)
            if self._length > MAX_BODY:
                raise HttpError(_too_large())
        else:
            self.keep = False

    def _read_chunks(self) -> bool:
        buffer = self._buffer
        while True:
            if not self._in_chunk:
                end = buffer.find(b"\r\n")
                if end > _CHUNK_LINE or (end < 0 and len(buffer) > _CHUNK_LINE):
                    raise HttpError("its chunks are broken")
                if end < 0:
                    return False
                size = bytes(buffer[:end]).partition(b";")[0].strip()
                if not size or len(size) > 8 or not _HEX.issuperset(size):
                    raise HttpError("its chunks are broken")
                self._length = int(size, 16)
                if self._length == 0:
                    return self._read_trailer(end + 2)
                self._size += self._length
                if self._size > MAX_BODY:
                    raise HttpError(_too_large())
                del buffer[: end + 2]
                self._in_chunk = True
            length = self._length or 0
            if len(buffer) < length + 2:
                return False
            if buffer[length : length + 2] != b"\r\n":
                raise HttpError("its chunks are broken")
            self._body.append(bytes(buffer[:length]))
            del buffer[: length + 2]
            self._in_chunk = False

    def _read_trailer(self, begin: int) -> bool:
        if self._buffer[begin : begin + 2] == b"\r\n":
            del self._buffer[: begin + 2]
            return True
        end = self._buffer.find(_END, begin)
        if end < 0:
            if len(self._buffer) - begin > MAX_HEAD:
                raise HttpError("its headers are too large")
            return False
        del self._buffer[: end + 4]
        return True

    def _reply(self) -> Reply:
        reply = Reply(self._status, self._headers or {}, b"".join(self._body))
        self._headers, self._length, self._chunked, self._size, self._in_chunk = None, None, False, 0, False
        self._body = []
        return reply


class Connection(asyncio.Protocol):
    """One connection, one request at a time. It is in `live` for as long as it is open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, live: set[Connection]) -> None:
        self._loop = loop
        self._live = live
        self._parser = Parser()
        self._waiting: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self._born = loop.time()

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent on it."""
        return self._transport is not None and self._waiting is None and not self._transport.is_closing()

    @property
    def age_s(self) -> float:
        """Since it was made."""
        return self._loop.time() - self._born

    def notice_a_dead_peer(self) -> None:
        """Let the kernel end it within half a minute when its peer is gone without a word."""
        sock = self._transport.get_extra_info("socket") if self._transport else None
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)

    async def ask(self, request: bytes, within_s: float) -> Reply:
        """Send a request and wait for its answer. Raises HttpError, TimeoutError, OSError."""
        assert self._transport is not None
        waiting: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting = waiting
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
        if self._waiting is None:
            self.abort()  # nobody asked
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
        self._transport = None
        self._live.discard(self)
        if self._waiting is None or self._waiting.done():
            return
        if exc is None and (reply := self._parser.end()) is not None:
            self._give(reply)
            return
        cut = HttpError("the connection ended before the answer did", cut=True, unanswered=self._parser.is_fresh)
        cut.__cause__ = exc
        self._fail(cut)

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


def _too_large() -> str:
    return f"it is larger than {MAX_BODY >> 20} MiB"
