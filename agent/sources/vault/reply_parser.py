"""Answers of HTTP/1.1 from the bytes of a connection, bounded in size. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_HEAD: Final = 64 << 10
MAX_BODY: Final = 4 << 20
_END: Final = b"\r\n\r\n"
_CHUNK_LINE: Final = 4096
"""Bytes of the line before a chunk."""
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


def _too_large() -> str:
    return f"it is larger than {MAX_BODY >> 20} MiB"
