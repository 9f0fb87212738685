"""The TLS contexts of this node, made anew whenever its certificate or what it trusts changes.

A connection keeps the context that it began with, so nothing is closed by a renewal; a new one gets the newest.
Contexts are replaced rather than changed, because an authority cannot be taken out of a live one.
"""

from __future__ import annotations

import ssl

from certs.tls import client_context, load_pair
from kernelsecret.errors import Code, Refused


class NodeContexts:
    """What this node shows to others, and whom it believes. The key is in memory only."""

    def __init__(self) -> None:
        self._authorities = ""
        self._certificate = ""
        self._key = ""
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        self._anonymous: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        return f"NodeContexts(trusts={bool(self._authorities)}, identified={bool(self._certificate)})"

    @property
    def is_identified(self) -> bool:
        """Whether this node has a certificate."""
        return bool(self._certificate)

    def trust(self, authorities: str) -> None:
        """Believe these authorities (PEM), and no others, from now on. Raises Refused where they are not any."""
        try:
            anonymous = client_context(authorities)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise Refused(Code.FAILED_PRECONDITION, "trust", "the authorities are not certificates in PEM") from error
        self._authorities, self._anonymous = authorities, anonymous
        self._rebuild()

    def identify(self, certificate: str, key: str) -> None:
        """Show this certificate (PEM, leaf first) from now on. Raises Refused where the key is not its key."""
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
        self._certificate, self._key = certificate, key
        self._rebuild()

    def server(self) -> ssl.SSLContext | None:
        """For the next connection that comes in: a client certificate is required. None before the first identity."""
        return self._server

    def client(self) -> ssl.SSLContext:
        """For the next connection to the webhook, with this node's certificate. Raises Refused before there is one."""
        if self._client is None:
            why = "this node has no certificate yet"
            raise Refused(Code.UNAVAILABLE, "node identity", why, "the agent's log says why; it goes on trying")
        return self._client

    def anonymous(self) -> ssl.SSLContext:
        """For a connection to the webhook without a certificate. Raises Refused before anybody is trusted."""
        if self._anonymous is None:
            why = "not known yet whom to trust"
            fix = "the webhook publishes it as the ConfigMap kernelsecret-trust: is the webhook running?"
            raise Refused(Code.UNAVAILABLE, "trust", why, fix)
        return self._anonymous

    def _rebuild(self) -> None:
        if not self._authorities or not self._certificate:
            return
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.minimum_version = ssl.TLSVersion.TLSv1_3
        server.verify_mode = ssl.CERT_REQUIRED
        server.num_tickets = 0  # a resumed session would not be verified anew
        server.load_verify_locations(cadata=self._authorities)
        load_pair(server, self._certificate, self._key)
        self._server = server
        self._client = client_context(self._authorities, self._certificate, self._key)
