from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme

from kernelsecret.errors import Refused
from tests.unit.webhook.server.serving import Client, client_context, context_of, serving
from webhook.server import serve
from webhook.server.peer import peer_certificate
from webhook.server.serve import bind
from webhook.server.tls import LiveTls


async def says_who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the peer's certificate."""
    body = peer_certificate(scope) or b"nobody"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def old() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def new() -> trustme.CA:
    return trustme.CA()


async def test_a_changed_certificate_is_served_to_the_next_connection_and_open_ones_live_on(
    old: trustme.CA, new: trustme.CA
) -> None:
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))
    async with serving(says_who, tls) as port, Client(port, client_context(old)) as first:
        assert (await first.ask())[0] == 200
        tls.use(context_of(new))
        async with Client(port, client_context(new)) as second:
            assert (await second.ask())[0] == 200
            assert second.certificate != first.certificate
        assert (await first.ask())[0] == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await Client(port, client_context(old)).__aenter__()


async def test_without_a_certificate_a_client_is_turned_away_by_tls(old: trustme.CA) -> None:
    tls = LiveTls(asks_peer=False)
    assert not tls.is_loaded
    async with serving(says_who, tls) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):  # asyncio does not always pass the alert on
            await Client(port, client_context(old)).__aenter__()
        tls.use(context_of(old))
        async with Client(port, client_context(old)) as client:
            assert (await client.ask())[0] == 200


async def test_the_application_sees_the_certificate_that_the_client_has_shown(old: trustme.CA) -> None:
    tls = LiveTls(asks_peer=True)
    tls.use(context_of(old, asks_peer=True))
    async with serving(says_who, tls) as port:
        async with Client(port, client_context(old, peer=old, name="node-7")) as node:
            body = (await node.ask())[2]
            assert ssl.DER_cert_to_PEM_cert(body)
            assert b"node-7" in body
            assert (await node.ask())[2] == body
        async with Client(port, client_context(old)) as nobody:
            assert (await nobody.ask())[2] == b"nobody"


async def test_a_certificate_of_a_dropped_authority_is_refused_from_the_next_connection_on(
    old: trustme.CA, new: trustme.CA
) -> None:
    tls = LiveTls(asks_peer=True)
    both = context_of(new, asks_peer=True)
    old.configure_trust(both)
    tls.use(both)
    as_node = client_context(new, peer=old)
    async with serving(says_who, tls) as port:
        async with Client(port, as_node) as node:
            assert (await node.ask())[0] == 200
        tls.use(context_of(new, asks_peer=True))
        with pytest.raises((ssl.SSLError, asyncio.IncompleteReadError, ConnectionResetError)):
            async with Client(port, as_node) as node:
                await node.ask()


async def test_the_admission_port_asks_for_no_certificate(old: trustme.CA) -> None:
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))
    async with serving(says_who, tls) as port, Client(port, client_context(old, peer=old)) as client:
        assert (await client.ask())[2] == b"nobody"


@pytest.mark.parametrize("sent", [b"POST /mutate HTT", b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc"])
async def test_a_request_that_does_not_arrive_is_given_up(
    old: trustme.CA, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(serve, "PATIENCE_S", 0.05)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))

    async def waits_for_the_body(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async with serving(waits_for_the_body, tls) as port, Client(port, client_context(old)) as client:
        client.writer.write(sent)
        assert await client.reader.read() == b""


async def test_a_connection_without_any_request_is_given_up_when_an_idle_one_is(
    old: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "KEEP_ALIVE_S", 0.05)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))
    async with serving(says_who, tls) as port, Client(port, client_context(old)) as client:
        assert await client.reader.read() == b""


@pytest.mark.parametrize("uses", [0, 1])
async def test_an_idle_connection_is_kept_whether_it_was_used_or_opened_ahead(
    old: trustme.CA, monkeypatch: pytest.MonkeyPatch, uses: int
) -> None:
    monkeypatch.setattr(serve, "PATIENCE_S", 0.0)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))
    swept = asyncio.Event()
    async with serving(says_who, tls) as port, Client(port, client_context(old)) as client:
        for _ in range(uses):
            assert (await client.ask())[0] == 200
        ticks = port.on_tick

        async def tick(counter: int) -> bool:
            told = await ticks(counter)
            swept.set()
            return told

        monkeypatch.setattr(port, "on_tick", tick)
        await swept.wait()
        assert (await client.ask())[0] == 200


async def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    with bind("127.0.0.1", 0, "A_SETTING") as taken, pytest.raises(Refused, match=r"A_SETTING: .*EADDRINUSE"):
        bind("127.0.0.1", taken.getsockname()[1], "A_SETTING")


async def test_of_too_many_connections_the_quietest_go(old: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)
    tls = LiveTls(asks_peer=False)
    tls.use(context_of(old))
    async with (
        serving(says_who, tls) as port,
        Client(port, client_context(old)) as quiet,
        Client(port, client_context(old)) as first,
        Client(port, client_context(old)) as second,
    ):
        assert await quiet.reader.read() == b""
        for used in (first, second):
            assert (await used.ask())[0] == 200
