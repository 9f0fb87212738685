"""Times, keys and registrations for the tests of certificates."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from kernelsecret.registration import Registration

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)
NODE = "node-1"


def registration(**changed: object) -> Registration:
    """A registration that is good for ten minutes from NOW."""
    fields: dict[str, object] = {
        "pod_uid": "7d0b2a3c-5a3e-4c9b-9a83-4f4f4d2b1c11",
        "namespace": "payments",
        "name": "api-0",
        "service_account": "api",
        "interceptor": "payments-db",
        "node": NODE,
        "expires_at": NOW + timedelta(minutes=10),
        "nonce": "0123456789abcdef0123456789abcdef",
    }
    return Registration(**(fields | changed))  # type: ignore[arg-type]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A whole TLS handshake in memory: (server's side, client's side). Raises ssl.SSLError as either side does."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    at_client = client.wrap_bio(to_client, to_server, server_hostname=host)
    waiting = [at_client, at_server]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return at_server, at_client
    raise AssertionError("the handshake does not end")
