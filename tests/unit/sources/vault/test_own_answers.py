"""Nobody is given the answer to somebody else's question: whoever gives up, whenever, and whatever is sent unasked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from agent.sources.vault.errors import VaultError
from agent.sources.vault.http1 import Connection, Idle
from agent.sources.vault.request import Request
from agent.sources.vault.settings import VaultSettings
from agent.sources.vault.wire import Wire

STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def echoing(chance: random.Random) -> AsyncIterator[Wire]:
    """A wire to a server that answers each request with its own path, in odd pieces, after some turns of the loop."""
    serving: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1]
                size = f"{len(path):x}".encode()
                if chance.random() < 0.5:
                    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path)
                else:
                    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n%s\r\n0\r\n\r\n" % (size, path)
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                cut = chance.randrange(len(whole))
                for part in (whole[:cut], whole[cut:]):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(answer(reader, writer))
        serving.add(task)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    wire = Wire(VaultSettings(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), time.monotonic)
    try:
        yield wire
    finally:
        await wire.close()
        server.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


async def given_up(wire: Wire, path: str, turns: int) -> bytes | None:
    """The answer, unless it takes more turns of the loop than these."""
    asking = asyncio.ensure_future(wire.ask(Request("GET", path)))
    for _ in range(turns):
        if asking.done():
            break
        await asyncio.sleep(0)
    asking.cancel()
    try:
        return (await asking).body
    except (asyncio.CancelledError, VaultError):
        return None


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_gives_up_at_whatever_moment_leaves_nothing_to_the_next(seed: int) -> None:
    chance = random.Random(seed)
    given = 0
    async with echoing(chance) as wire:
        # A busy machine needs more turns for an answer: some wait as long as it takes.
        for turns in (*range(40), 10_000, 1_000_000):
            paths = [f"/v1/{turns}/{number}" for number in range(3)]
            answers = await asyncio.gather(*(given_up(wire, path, turns + number) for number, path in enumerate(paths)))
            for path, answer in zip(paths, answers, strict=True):
                assert answer in (None, path.encode())
                given += answer is not None
            last = f"/v1/{turns}/whole"
            assert (await wire.ask(Request("GET", last))).body == last.encode()
    assert given > 3  # else nothing was tried


@pytest.mark.parametrize("seed", range(3))
async def test_an_answer_that_came_too_late_is_nobodys(seed: int) -> None:
    chance = random.Random(seed)
    async with echoing(chance) as wire:
        for number in range(40):
            with suppress(VaultError):
                reply = await wire.ask(Request("GET", f"/v1/{number}"), whole_s=chance.random() * 0.002)
                assert reply.body == f"/v1/{number}".encode()
            last = f"/v1/{number}/whole"
            assert (await wire.ask(Request("GET", last))).body == last.encode()


async def test_what_is_sent_after_an_answer_and_before_it_was_taken_is_no_answer_to_the_next() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    loop, live = asyncio.get_running_loop(), set[Connection]()
    port = server.sockets[0].getsockname()[1]
    _, made = await loop.create_connection(lambda: Connection(loop, live), "127.0.0.1", port)
    asking = asyncio.ensure_future(made.ask(REQUEST, 5))
    await asyncio.sleep(0)
    made.data_received(STRAY + b"whole")
    made.data_received(STRAY)  # the beginning of one that nobody asked for
    assert (await asking).body == b"whole"
    assert not made.is_usable
    idle = Idle(most=1, age_s=60)
    idle.give(made)
    assert idle.take() is None
    made.abort()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("turns", range(16))
async def test_a_connection_that_nobody_waits_for_any_more_is_not_left_open(turns: int) -> None:
    ends = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ends.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = Wire(VaultSettings(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), time.monotonic)
    assert await given_up(wire, "/v1/sys/health", turns) is None
    if turns > 6:  # connected by then
        async with asyncio.timeout(5):
            await ends.wait()
    await wire.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", ["vault..example", "v" * 64 + ".example"])
async def test_a_host_that_is_no_name_at_all_is_not_known(host: str) -> None:
    wire = Wire(VaultSettings(f"https://{host}"), time.monotonic)
    with pytest.raises(VaultError, match="is not known"):
        await wire.ask(Request("GET", "/v1/sys/health"))
    await wire.close()
