from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.observe.admin import AdminServer
from agent.observe.events import EventHub, Subscription
from kernelsecret.errors import Code, Refused
from tests.unit.conftest import LogLines
from tests.unit.observe.samples import ALL, CANARY, read


class WatchedHub(EventHub):
    """A hub that says when a subscriber has left, so that no test has to sleep for it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.left = asyncio.Event()

    def _forget(self, subscription: Subscription) -> None:
        super()._forget(subscription)
        self.left.set()


@asynccontextmanager
async def serving(
    folder: Path, hub: EventHub, status: Callable[[], Any] = dict, keep_alive_s: float = 60.0
) -> AsyncIterator[aiohttp.ClientSession]:
    path = folder / "run" / "admin.sock"
    server = AdminServer(path, status, hub, allowed_uid=os.geteuid(), keep_alive_s=keep_alive_s)
    await server.start()
    try:
        async with aiohttp.ClientSession("http://admin", connector=aiohttp.UnixConnector(str(path))) as client:
            yield client
    finally:
        await server.stop()
        await server.stop()
    assert not path.exists()


async def test_status_is_the_document_that_the_agent_gives(short_folder: Path) -> None:
    async with serving(short_folder, EventHub(), lambda: {"engine": "iter", "volumes": [1]}) as client:
        async with client.get("/status") as answer:
            assert answer.status == 200
            assert await answer.json() == {"engine": "iter", "volumes": [1]}
            assert "Server" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
        async with client.get("/health") as answer:
            assert await answer.json() == {"ok": True}


async def test_the_socket_is_private(short_folder: Path) -> None:
    async with serving(short_folder, EventHub()):
        assert stat.S_IMODE((short_folder / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((short_folder / "run" / "admin.sock").stat().st_mode) == 0o600


async def test_live_events_come_as_json_lines_the_kept_ones_first(short_folder: Path) -> None:
    hub = EventHub()
    hub.publish(read(pid=1))
    hub.publish(read(pid=2))
    async with serving(short_folder, hub) as client, client.get("/events?replay=1") as answer:
        assert answer.content_type == "application/x-ndjson"
        assert await answer.content.readline() == b"\n"
        for record in ALL:
            hub.publish(record)
        assert json.loads(await answer.content.readline())["pid"] == 2
        assert [json.loads(await answer.content.readline())["event"] for _ in ALL] == [r.event for r in ALL]


async def test_without_follow_the_kept_events_come_and_the_stream_ends(short_folder: Path) -> None:
    hub = EventHub(kept=5, capacity=3)
    for number in range(5):
        hub.publish(read(pid=number))
    async with serving(short_folder, hub) as client, client.get("/events?replay=5&follow=0") as answer:
        documents = [json.loads(line) for line in (await answer.text()).splitlines() if line]
        assert documents[0] == {"event": "dropped", "count": 2}
        assert [document["pid"] for document in documents[1:]] == [2, 3, 4]
    assert hub.subscribers == 0


async def test_a_watcher_that_leaves_is_forgotten_at_once(short_folder: Path) -> None:
    hub = WatchedHub()
    async with serving(short_folder, hub) as client:
        async with client.get("/events") as answer:
            await answer.content.readline()
            assert hub.subscribers == 1
        async with asyncio.timeout(5):
            await hub.left.wait()
        assert hub.subscribers == 0


async def test_a_quiet_stream_is_kept_alive_and_loses_nothing(short_folder: Path) -> None:
    hub = EventHub()
    async with serving(short_folder, hub, keep_alive_s=0.01) as client, client.get("/events") as answer:
        for _ in range(3):
            assert await answer.content.readline() == b"\n"
        hub.publish(read(pid=9))
        line = b"\n"
        while line == b"\n":
            line = await answer.content.readline()
        assert json.loads(line)["pid"] == 9


async def test_stopping_the_agent_ends_the_streams(short_folder: Path) -> None:
    hub = EventHub()
    path = short_folder / "run" / "admin.sock"
    server = AdminServer(path, dict, hub, allowed_uid=os.geteuid())
    await server.start()
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://admin", connector=connector) as client, client.get("/events") as answer:
        await answer.content.readline()
        await server.stop()
        assert await answer.content.read() == b""


@pytest.mark.parametrize("query", ["replay=-1", "replay=x", "replay=", "replay=1234567", "follow=yes", "replay=٣"])
async def test_a_wrong_question_is_answered_with_the_field(short_folder: Path, query: str) -> None:
    async with serving(short_folder, EventHub()) as client, client.get(f"/events?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["field"] == query.partition("=")[0]


async def test_too_many_watchers_are_refused_with_the_reason(short_folder: Path) -> None:
    hub = EventHub(max_subscribers=1)
    hub.subscribe()
    async with serving(short_folder, hub) as client, client.get("/events") as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "RESOURCE_EXHAUSTED"


async def test_nothing_can_be_changed_and_nothing_else_is_there(short_folder: Path) -> None:
    async with serving(short_folder, EventHub()) as client:
        for method, path, status in (("POST", "/status", 405), ("DELETE", "/events", 405), ("GET", "/", 404)):
            async with client.request(method, path) as answer:
                assert answer.status == status


async def test_a_failing_provider_shows_its_class_alone_even_in_debug_mode(
    short_folder: Path, log_lines: LogLines
) -> None:
    def status() -> Any:
        raise ValueError(CANARY)

    asyncio.get_running_loop().set_debug(True)
    async with serving(short_folder, EventHub(), status) as client, client.get("/status") as answer:
        assert answer.status == 500
        text = await answer.text()
    assert "ValueError" in text
    assert CANARY not in text + log_lines.text
    assert log_lines.lines[-1]["event"] == "request failed"


async def test_a_second_agent_is_refused_and_a_stale_socket_replaced(short_folder: Path) -> None:
    async with serving(short_folder, EventHub()):
        with pytest.raises(Refused, match="a live process listens there") as caught:
            await AdminServer(short_folder / "run" / "admin.sock", dict, EventHub()).start()
        assert caught.value.code is Code.FAILED_PRECONDITION
