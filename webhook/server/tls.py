"""TLS whose certificate and authorities change without a restart and without a closed connection. No file is read here.

The listener keeps one context for its whole life; each handshake is moved to the newest context by the server-name
callback, which runs for clients that send no name too. Connections that are open keep what they began with.
"""

from __future__ import annotations

import ssl


def server_context(*, asks_peer: bool) -> ssl.SSLContext:
    """A context for our ports, without a certificate yet. `asks_peer`: what certificate a client shows is verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # In TLS 1.2 a session can be resumed without a ticket too, from the server's own memory.
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if asks_peer else ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL if asks_peer else ssl.CERT_NONE
    # A resumed session is not verified anew, so it could outlive the authority that it was verified by.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    return context


class LiveTls:
    """`listener` is for the server; `use` decides what the next connection meets. No certificate yet: it is refused."""

    def __init__(self, *, asks_peer: bool) -> None:
        self.asks_peer = asks_peer
        self.listener = server_context(asks_peer=asks_peer)
        self.listener.sni_callback = self._choose
        self._current: ssl.SSLContext | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether there is a certificate to show."""
        return self._current is not None

    def use(self, context: ssl.SSLContext) -> None:
        """Serve new connections by this context (made by `server_context`, with a certificate in it)."""
        self._current = context

    def _choose(self, session: ssl.SSLObject, _name: str | None, _listener: ssl.SSLContext) -> int | None:
        if self._current is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR
        session.context = self._current
        return None
