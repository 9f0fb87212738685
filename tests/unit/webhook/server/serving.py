"""A port of the webhook on the loopback, with certificates of a test's own authority."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trustme

from webhook.server.serve import Port, bind
from webhook.server.tls import LiveTls, server_context

HOST = "webhook.test"


def context_of(authority: trustme.CA, *, asks_peer: bool = False) -> ssl.SSLContext:
    """What the webhook serves by: a new certificate of the authority, which also vouches for peers."""
    context = server_context(asks_peer=asks_peer)
    authority.issue_cert(HOST).configure_cert(context)
    authority.configure_trust(context)
    return context


def client_context(authority: trustme.CA, *, peer: trustme.CA | None = None, name: str = "node-1") -> ssl.SSLContext:
    """A client that trusts one authority, and shows a certificate of another."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if peer is not None:
        peer.issue_cert(name).configure_cert(context)
    return context


@asynccontextmanager
async def serving(application: Any, tls: LiveTls, *, finish_s: int = 2) -> AsyncIterator[Port]:
    port = Port(application, bind("127.0.0.1", 0, "a setting"), tls, finish_s=finish_s)
    running = asyncio.create_task(port.run_until_told())
    try:
        await port.listening.wait()
        yield port
    finally:
        port.should_exit = True
        await running


class Client:
    """One keep-alive connection that speaks just enough HTTP/1.1 to see what is on the wire."""

    def __init__(self, port: Port, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._context = context

    async def __aenter__(self) -> Client:
        name = HOST if self._context else None
        self.reader, self.writer = await asyncio.open_connection(
            *self._port.address, ssl=self._context, server_hostname=name
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.writer.close()
        # TLS peers that are aborted never say goodbye.
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    @property
    def certificate(self) -> bytes:
        """What the server showed, DER."""
        found = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert isinstance(found, bytes)
        return found

    async def ask(self, raw: bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") -> tuple[int, dict[str, str], bytes]:
        """Send one request as it stands, and read its answer: status, headers and body."""
        self.writer.write(raw)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body
