"""Handshakes that are never ended, over real sockets and TLS, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import trustme
import uvloop

from telemetry.logkeys import Event
from tests.unit.webhook.server.serving import HOST, client_context, context_of, serving
from tests.unit.webhook.server.test_port import says_who
from webhook.server import doorway, serve
from webhook.server.serve import Port
from webhook.server.tls import LiveTls

Scenario = Callable[[Coroutine[Any, Any, None]], None]
REAL = "127.0.0.2"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> LiveTls:
    made = LiveTls(asks_peer=False)
    made.use(context_of(authority))
    return made


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Scenario:
    def run(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(scenario, 10))

    return run


@contextlib.asynccontextmanager
async def strangers(port: Port, count: int, address: str = "127.0.0.1") -> AsyncIterator[list[socket.socket]]:
    """Connections of which nothing is ever heard."""
    made: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    try:
        for _ in range(count):
            made.append(one := socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            one.setblocking(False)
            one.bind((address, 0))
            await loop.sock_connect(one, port.address)
        yield made
    finally:
        for one in made:
            one.close()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - others' sockets, which have no event
        await asyncio.sleep(0.001)


async def are_let_go(ones: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    for one in ones:
        with contextlib.suppress(ConnectionError):
            assert await loop.sock_recv(one, 1) == b""


async def answer(port: Port, context: ssl.SSLContext, address: str = REAL) -> bytes:
    reader, writer = await asyncio.open_connection(
        *port.address, ssl=context, server_hostname=HOST, local_addr=(address, 0)
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def test_strangers_hold_few_handshakes_and_a_client_of_another_address_is_answered_meanwhile(
    authority: trustme.CA, tls: LiveTls, on_loop: Scenario
) -> None:
    async def scenario() -> None:
        async with serving(says_who, tls) as port, strangers(port, 300):
            held = port.doorway
            await until(lambda: held.handshakes + held.waiting == 300)
            assert held.handshakes == doorway.SHARE
            assert b"200 OK" in await answer(port, client_context(authority))
            assert held.handshakes == doorway.SHARE
            assert held.waiting == 300 - doorway.SHARE

    on_loop(scenario())


def test_handshakes_that_do_not_end_are_ended_and_so_is_waiting_for_one(
    tls: LiveTls, on_loop: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway, "HANDSHAKE_S", 0.1)
    monkeypatch.setattr(serve, "_TICKS_BETWEEN_SWEEPS", 1)

    async def scenario() -> None:
        async with serving(says_who, tls) as port, strangers(port, 100) as ones:
            await are_let_go(ones)
            # The stranger may know of the end before the port has counted it.
            await until(lambda: (port.doorway.handshakes, port.doorway.waiting) == (0, 0))

    on_loop(scenario())


def test_when_too_many_wait_the_address_that_has_most_gives_up_its_oldest(
    authority: trustme.CA, tls: LiveTls, on_loop: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway, "HANDSHAKES", 4)
    monkeypatch.setattr(doorway, "SHARE", 4)
    monkeypatch.setattr(doorway, "MOST_WAITING", 10)

    async def scenario() -> None:
        async with serving(says_who, tls) as port, strangers(port, 44) as ones:
            await are_let_go(ones[4:34])
            real = asyncio.create_task(answer(port, client_context(authority)))
            await are_let_go(ones[34:35])
            assert (port.doorway.handshakes, port.doorway.waiting) == (4, 10)
            ones[0].close()
            assert b"200 OK" in await real

    on_loop(scenario())


def test_many_clients_of_one_address_wait_their_turn_and_none_is_lost(
    authority: trustme.CA, tls: LiveTls, on_loop: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway, "SHARE", 2)

    async def scenario() -> None:
        context = client_context(authority)
        async with serving(says_who, tls) as port:
            answers = await asyncio.gather(*(answer(port, context) for _ in range(30)))
            assert all(b"200 OK" in one for one in answers)

    on_loop(scenario())


def test_who_stops_lets_go_of_all_handshakes(tls: LiveTls, on_loop: Scenario) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            port = await stack.enter_async_context(serving(says_who, tls))
            ones = await stack.enter_async_context(strangers(port, 100))
            await until(lambda: port.doorway.handshakes + port.doorway.waiting == 100)
            port.should_exit = True
            await are_let_go(ones)
            await until(lambda: not port.doorway.handshakes)

    on_loop(scenario())


def test_what_is_no_tls_is_ended(authority: trustme.CA, tls: LiveTls, on_loop: Scenario) -> None:
    async def scenario() -> None:
        async with serving(says_who, tls) as port, strangers(port, 3) as ones:
            for one in ones:
                await asyncio.get_running_loop().sock_sendall(one, b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: not port.doorway.handshakes)
            assert b"200 OK" in await answer(port, client_context(authority))

    on_loop(scenario())


def test_a_process_without_descriptors_left_accepts_again_when_it_has_some(
    authority: trustme.CA, tls: LiveTls, on_loop: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorway, "PAUSE_S", 0.01)
    told: list[str] = []
    monkeypatch.setattr(doorway.log, "error", lambda event, **_more: told.append(event))
    context = client_context(authority)

    async def scenario() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serving(says_who, tls) as port:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
                lowest_free = os.dup(caller.fileno())
                os.close(lowest_free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
                try:
                    caller.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(caller, port.address)
                    await until(lambda: len(told) > 1)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert set(told) == {Event.CANNOT_ACCEPT}
                await until(lambda: port.doorway.handshakes == 1)
            assert b"200 OK" in await answer(port, context)

    on_loop(scenario())
