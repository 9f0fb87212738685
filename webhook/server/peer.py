"""One client's connection: who is at the other end, how long it has kept us waiting, and how much it may send."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD: Final = 64 * 1024
"""Bytes of a request that are no body, such as its headers: nobody needs more, and they are all held in memory."""

_PEER: Final = "peer_certificate"


class _TooMuch(Exception):
    """The connection was ended for what came by it."""


def peer_certificate(scope: Mapping[str, Any]) -> bytes | None:
    """The certificate (DER) that the client of an ASGI request has shown and TLS has verified, None without one."""
    found = scope.get("state", {}).get(_PEER)
    return found if isinstance(found, bytes) else None


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which neither tells an application of the peer's certificate nor bounds what a request may
    take of time and memory to arrive.

    Requests that do not wait for the answer before them would be queued without a bound: they end the connection.
    """

    waiting_since: float | None = None
    """The loop's time when the request that is not all here began, None between requests."""
    quiet_since: float = 0.0
    """The loop's time when its last request was all here, or when it was made."""
    _head_ends = False
    """Whether the head of the request is all here."""
    _head = 0
    """Bytes of the request's path, headers and trailers."""
    _between = 0
    """Bytes since the last that were of a body, or ended a request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done."""
        super().connection_made(transport)
        self.quiet_since = self.loop.time()
        session = transport.get_extra_info("ssl_object")
        certificate = session.getpeercert(binary_form=True) if session is not None else None
        self.app_state = {**self.app_state, _PEER: certificate}

    def data_received(self, data: bytes) -> None:
        """Bytes came. What is not whole yet is held by the parser, which has no bound of its own."""
        self._between += len(data)
        super().data_received(data)
        if self._between > MOST_HEAD:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        if not self.is_idle:
            self._cut()
        self.waiting_since = self.loop.time()
        self._head_ends = False
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer, which nobody reads."""
        self._count(name, value)
        if not self._head_ends:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body comes next."""
        self._head_ends = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, whose length is the application's to bound."""
        self._between = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last bytes of a request."""
        self._between = 0
        self.waiting_since = None
        self.quiet_since = self.loop.time()
        super().on_message_complete()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked on it now."""
        # There is no cycle before the first request, which uvicorn's types do not say.
        return self.waiting_since is None and bool(getattr(self.cycle, "response_complete", True))

    def is_late(self, patience_s: float, answer_s: float, idle_s: float) -> bool:
        """Whether a request began to arrive longer than `patience_s` ago, and has not; or its answer could not be
        given, or was not read, for `answer_s`; or none began for `idle_s`.

        The API server opens connections ahead and may use one first after a minute, so a new one is not late sooner
        than an idle one is.
        """
        now = self.loop.time()
        if self.waiting_since is not None:
            return now - self.waiting_since > patience_s
        return now - self.quiet_since > (idle_s if self.is_idle else answer_s)

    def _count(self, *parts: bytes) -> None:
        self._head += sum(map(len, parts)) + len(parts)
        if self._head > MOST_HEAD:
            self._cut()

    def _cut(self) -> None:
        self.transport.abort()
        raise _TooMuch
