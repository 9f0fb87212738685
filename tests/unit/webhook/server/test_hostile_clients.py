"""One client that would fill the memory, or hold a connection for ever, with requests that never are quite there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import trustme

from tests.unit.webhook.server.serving import Client, client_context, context_of, serving
from webhook.server import serve
from webhook.server.peer import Connection
from webhook.server.tls import LiveTls

ENDLESS = 2 << 20


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> LiveTls:
    made = LiveTls(asks_peer=False)
    made.use(context_of(authority))
    return made


class Application:
    """Reads what it is sent, and answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.headers = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.body = b"fine"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        while (await receive()).get("more_body"):
            pass
        self.headers = len(scope["headers"])
        await self.may_answer.wait()
        headers = [(b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def send_until_cut(client: Client, begin: bytes, part: bytes) -> int:
    """How many bytes were sent before the server ended it; ENDLESS where it did not."""
    sent = 0
    try:
        client.writer.write(begin)
        while sent < ENDLESS:
            client.writer.write(part)
            await client.writer.drain()
            sent += len(part)
            if client.reader.at_eof():
                break
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    return sent


@pytest.mark.parametrize(
    ("begin", "part"),
    [
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1000),
        (b"GET / HTTP/1.1\r\na: ", b"b" * 8192),
        (b"GET /", b"a" * 8192),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 1000),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: ", b"b" * 8192),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;", b"b" * 8192),
    ],
    ids=["headers", "a header", "a path", "trailers", "a trailer", "an extension of a chunk"],
)
async def test_what_never_ends_is_cut_off(authority: trustme.CA, tls: LiveTls, begin: bytes, part: bytes) -> None:
    async with serving(Application(), tls) as port, Client(port, client_context(authority)) as client:
        assert await send_until_cut(client, begin, part) < ENDLESS


async def test_headers_as_others_send_them_and_trailers_are_taken(authority: trustme.CA, tls: LiveTls) -> None:
    application = Application()
    async with serving(application, tls) as port, Client(port, client_context(authority)) as client:
        head = b"POST / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 30_000 + b"\r\n"
        whole = b"content-length: 300000\r\n\r\n" + b"c" * 300_000
        assert (await client.ask(head + whole))[0] == 200
        chunked = b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\ntrailer: x\r\n\r\n"
        assert (await client.ask(head + chunked))[0] == 200
        assert application.headers == 3
        assert (await client.ask())[0] == 200


async def test_requests_that_do_not_wait_for_the_answer_before_them_end_the_connection(
    authority: trustme.CA, tls: LiveTls
) -> None:
    application = Application()
    application.may_answer.clear()
    async with serving(application, tls) as port, Client(port, client_context(authority)) as client:
        client.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5000)
        with contextlib.suppress(ConnectionError):
            assert b"200 OK" not in await client.reader.read()
        assert application.asked <= 1
        application.may_answer.set()


async def test_an_answer_that_nobody_reads_is_given_up(
    authority: trustme.CA, tls: LiveTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "ANSWER_S", 0.05)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)
    application = Application()
    application.may_answer.clear()
    async with serving(application, tls) as port, Client(port, client_context(authority)) as client:
        client.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert await client.reader.read() == b""
        assert not [one for one in port.server_state.connections if isinstance(one, Connection)]
        application.may_answer.set()
