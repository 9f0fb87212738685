"""Who may talk to the admin socket: only root. The peer's credentials are checked before a byte is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from agent.sockets import peer_of
from telemetry.logkeys import Event
from telemetry.logs import get_logger

ROOT = 0
_REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

log = get_logger("observe")


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
        peer = peer_of(transport.get_extra_info("socket"))
        if peer.uid != self._allowed_uid:
            log.warning(Event.PEER_REFUSED, pid=peer.pid, uid=peer.uid)
            # Not by isinstance: uvloop's transports are no subclass.
            cast("asyncio.Transport", transport).write(_REFUSAL)
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
