"""One client's connection: who is at the other end, and how long it has kept us waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_PEER: Final = "peer_certificate"


def peer_certificate(scope: Mapping[str, Any]) -> bytes | None:
    """The certificate (DER) that the client of an ASGI request has shown and TLS has verified, None without one."""
    found = scope.get("state", {}).get(_PEER)
    return found if isinstance(found, bytes) else None


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which neither tells an application of the peer's certificate nor bounds the time that a
    request may take to arrive.
    """

    waiting_since: float | None = None
    """The loop's time when the request that is not all here began, None between requests."""
    quiet_since: float = 0.0
    """The loop's time when its last request was all here, or when it was made."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done."""
        super().connection_made(transport)
        self.quiet_since = self.loop.time()
        session = transport.get_extra_info("ssl_object")
        certificate = session.getpeercert(binary_form=True) if session is not None else None
        self.app_state = {**self.app_state, _PEER: certificate}

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        self.waiting_since = self.loop.time()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The last bytes of a request."""
        self.waiting_since = None
        self.quiet_since = self.loop.time()
        super().on_message_complete()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked on it now."""
        # There is no cycle before the first request, which uvicorn's types do not say.
        return self.waiting_since is None and bool(getattr(self.cycle, "response_complete", True))

    def is_late(self, patience_s: float, idle_s: float) -> bool:
        """Whether a request began to arrive longer than `patience_s` ago, and has not; or none began for `idle_s`.

        The API server opens connections ahead and may use one first after a minute, so a new one is not late sooner
        than an idle one is.
        """
        now = self.loop.time()
        if self.waiting_since is not None:
            return now - self.waiting_since > patience_s
        return self.is_idle and now - self.quiet_since > idle_s
