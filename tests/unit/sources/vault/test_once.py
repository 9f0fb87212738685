"""What makes something each time it is asked is not asked again by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.request import Request
from agent.sources.vault.settings import VaultSettings
from agent.sources.vault.wire import Wire

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(("once", "times"), [(False, 2), (True, 1)])
async def test_a_question_that_makes_something_is_asked_once_where_the_connection_is_cut(
    once: bool, times: int
) -> None:
    asked: list[bytes] = []
    serving: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            asked.append(line.split()[1])
            if asked[-1] == b"/v1/creds":
                break
            writer.write(EMPTY)
        writer.close()
        await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.ensure_future(answer(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    wire = Wire(VaultSettings(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), time.monotonic)
    try:
        await wire.ask(Request("GET", "/v1/kept"))
        with pytest.raises(VaultError) as met:
            await wire.ask(Request("GET", "/v1/creds", once=once))
        assert met.value.kind is Kind.UNAVAILABLE
        assert asked == [b"/v1/kept", *times * [b"/v1/creds"]]
    finally:
        await wire.close()
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
