"""HTTP/1.1 as Vault speaks it, in whatever pieces it comes, and what is no HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.vault.http1 import Connection, Idle
from agent.sources.vault.reply_parser import MAX_BODY, HttpError, Parser, Reply

WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}'
IN_CHUNKS = (
    b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: Chunked\r\nRetry-After: 3\r\n\r\n"
    b'3;ext=1\r\n{"a\r\n4\r\n":1}\r\n0\r\nTrailer: x\r\n\r\n'
)
NO_BODY = b"HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
BODY = b'{"a":1}'


def fed(parser: Parser, data: bytes, cuts: list[int]) -> list[Reply]:
    """The answers in a stream that is cut there."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    replies = []
    for begin, end in pairwise(edges):
        if begin < end and (reply := parser.feed(data[begin:end])) is not None:
            replies.append(reply)
    return replies


@given(cuts=st.lists(st.integers(0, 400), max_size=12))
def test_an_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    for data, status, body in ((WITH_LENGTH, 200, BODY), (IN_CHUNKS, 403, BODY), (NO_BODY, 204, b"")):
        parser = Parser()
        (reply,) = fed(parser, INTERIM + data, cuts)
        assert (reply.status, reply.body) == (status, body)
        assert parser.keep
        assert parser.is_fresh


def test_names_of_headers_are_in_lower_case_and_values_are_stripped() -> None:
    reply = Parser().feed(b"HTTP/1.1 429 Slow\r\nRETRY-after:  7 \r\nContent-Length: 0\r\n\r\n")
    assert reply is not None
    assert reply.header(b"retry-after") == "7"
    assert reply.header(b"location") == ""
    assert "7" not in repr(reply)


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    parser = Parser()
    assert parser.feed(b"HTTP/1.0 500 No\r\n\r\nhalf") is None
    assert parser.feed(b" and half") is None
    reply = parser.end()
    assert reply is not None
    assert reply.body == b"half and half"
    assert not parser.keep


def test_an_answer_that_ends_too_early_is_none() -> None:
    for data in (WITH_LENGTH, IN_CHUNKS):
        for length in range(len(data)):
            parser = Parser()
            assert parser.feed(data[:length]) is None
            assert parser.end() is None


def test_a_server_may_end_the_connection_after_an_answer() -> None:
    parser = Parser()
    assert parser.feed(WITH_LENGTH.replace(b"\r\nContent-Length", b"\r\nConnection: Close\r\nContent-Length"))
    assert not parser.keep


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 5000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + str(MAX_BODY + 1).encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * (MAX_BODY + 1),
    ],
)
def test_what_is_no_answer_is_refused_and_not_waited_for(data: bytes) -> None:
    with pytest.raises(HttpError):
        Parser().feed(data)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    parser = Parser()
    with suppress(HttpError):
        parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    with suppress(HttpError):
        Parser().feed(data)


# Connections, to a server of this test that says what it is told

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[tuple[Connection, set[Connection]]]:
    """A connection to somebody who behaves so, and those that live."""
    serving: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await serve(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(handle(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    loop, live = asyncio.get_running_loop(), set[Connection]()
    port = server.sockets[0].getsockname()[1]
    _, made = await loop.create_connection(lambda: Connection(loop, live), "127.0.0.1", port)
    try:
        yield made, live
    finally:
        made.abort()
        server.close()
        await asyncio.gather(*serving)
        await server.wait_closed()
        await ended(live)


async def ended(live: set[Connection]) -> None:
    """Wait until no connection lives."""
    for _ in range(1000):
        if not live:
            return
        await asyncio.sleep(0)
    raise AssertionError("a connection lives on")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing, until the other side has ended."""
    await reader.read()


@pytest.mark.parametrize(("sent", "unanswered"), [(b"", True), (WITH_LENGTH[:-1], False)])
async def test_a_connection_that_was_cut_says_whether_anything_came(sent: bytes, unanswered: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)

    async with connected(serve) as (made, live):
        with pytest.raises(HttpError) as met:
            await made.ask(REQUEST, 5)
        assert met.value.cut
        assert met.value.unanswered is unanswered
        await ended(live)


async def test_a_connection_that_ended_before_it_was_asked_says_why() -> None:
    async with connected(silent) as (made, live):
        why = OSError("reset")
        made.abort()
        await ended(live)
        made.connection_lost(why)
        with pytest.raises(HttpError) as met:
            await made.ask(REQUEST, 5)
        assert met.value.cut
        assert met.value.unanswered
        assert met.value.__cause__ is why


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    async with connected(silent) as (made, live):
        with pytest.raises(TimeoutError):
            await made.ask(REQUEST, 0.01)
        assert not made.is_usable
        await ended(live)


async def test_whoever_no_longer_waits_ends_the_connection() -> None:
    async with connected(silent) as (made, live):
        asking = asyncio.ensure_future(made.ask(REQUEST, 5))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not made.is_usable
        await ended(live)


async def test_a_server_that_speaks_unasked_is_left() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WITH_LENGTH + WITH_LENGTH)
        await reader.read()

    async with connected(serve) as (made, live):
        assert (await made.ask(REQUEST, 5)).body == BODY
        assert not made.is_usable
        await ended(live)


async def test_kept_connections_are_few_young_and_live() -> None:
    async with connected(silent) as (one, _), connected(silent) as (two, _), connected(silent) as (three, _):
        idle = Idle(most=2, age_s=60)
        for made in (one, two, three):
            idle.give(made)
        assert not three.is_usable  # it was too many
        assert idle.take() is two
        one.abort()
        assert idle.take() is None
        old = Idle(most=2, age_s=0)
        old.give(two)
        assert old.take() is None
