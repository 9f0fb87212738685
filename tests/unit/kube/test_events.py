"""Events are written without anybody waiting for them; `tests/apiserver/test_events.py` does it with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from agent.kube import events
from agent.kube.event_book import EventReason
from agent.kube.events import EventWriter
from agent.model import PodRef
from apiclient.client import ApiClient
from apiclient.connection import Connection
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines

POD = PodRef("payments", "api-0", "uid-1", "api")
DOWN = EventReason.SOURCE_DOWN


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    def __init__(self, fake: FakeApiServer, clock: Clock) -> None:
        self.fake, self.clock = fake, clock
        self.counts: list[str] = []
        self.writer: EventWriter

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.fake.objects.values())


class Refusing(FakeApiServer):
    """Answers with a status, or hangs."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self.status:
            return await super().handle(request)
        self.requests.append(request)
        return web.json_response({"kind": "Status", "message": "canary"}, status=self.status)


@asynccontextmanager
async def writing(fake: FakeApiServer | None = None) -> AsyncIterator[Scene]:
    clock = Clock()
    async with serving(fake or FakeApiServer()) as url, ApiClient(Connection(url)) as client:
        scene = Scene(fake or FakeApiServer(), clock)
        scene.writer = EventWriter(client, "node-1", count=scene.counts.append, clock=clock, wall_clock=lambda: 1.8e9)
        running = asyncio.create_task(scene.writer.run())
        try:
            yield scene
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_an_event_says_who_about_whom_and_why() -> None:
    fake = FakeApiServer()
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "kubernetes:payments/db: there is no Secret", warning=True)
        await until(lambda: scene.counts == ["written"])
        [event] = scene.events
    assert event.pop("metadata")["namespace"] == "payments"
    assert event == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2027-01-15T08:00:00.000000Z",
        "reportingController": "kernelsecret.io/agent",
        "reportingInstance": "node-1",
        "action": "FetchSecret",
        "reason": "SecretSourceDown",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "payments", "name": "api-0", "uid": "uid-1"},
        "note": "kubernetes:payments/db: there is no Secret",
        "type": "Warning",
    }


async def test_every_reason_has_an_action() -> None:
    assert set(events._ACTIONS) == set(EventReason)


async def test_said_again_it_is_one_event_with_a_count() -> None:
    fake = FakeApiServer()
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: scene.counts == ["written"])
        scene.clock.now += 61.0
        for _ in range(4):
            scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: scene.counts.count("written") == 2)
        [event] = scene.events
        assert event["series"] == {"count": 5, "lastObservedTime": "2027-01-15T08:01:01.000000Z"}
        assert scene.counts.count("counted") == 4


async def test_the_last_count_is_written_when_its_time_has_come_without_another_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.kube.event_book.SERIES_EVERY_S", 0.02)
    fake = FakeApiServer()
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: scene.counts == ["written"])
        scene.writer.tell(POD, DOWN, "away", warning=True)
        scene.clock.now += 0.03
        await until(lambda: bool(scene.events[0].get("series")))


async def test_notes_are_one_line_that_fits_and_cannot_be_a_value() -> None:
    fake = FakeApiServer()
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "two\nlines \u202e " + "ü" * 2000, warning=False)
        await until(lambda: scene.counts == ["written"])
        note = scene.events[0]["note"]
        assert note.startswith("two\\x0alines \\u202e ")
        assert 1000 < len(note.encode()) <= 1024
        assert scene.events[0]["type"] == "Normal"
        wrong: list[tuple[Any, Any]] = [(b"canary", "x"), (DOWN, b"canary")]
        for reason, text in wrong:
            with pytest.raises(TypeError) as caught:
                scene.writer.tell(POD, reason, text, warning=True)
            assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("status", "result"), [(403, "refused"), (404, "refused"), (429, "away"), (500, "away")])
async def test_what_the_api_server_does_not_take_is_counted_lost_and_logged_once(
    status: int, result: str, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr(events, "AWAY_PAUSE_S", 0.0)
    fake = Refusing(status)
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "one", warning=True)
        scene.writer.tell(POD, DOWN, "two", warning=True)
        await until(lambda: scene.counts == [result, result])
        fake.status = 0
        scene.writer.tell(POD, DOWN, "one", warning=True)
        await until(lambda: scene.counts[-1] == "written")
        assert [event["note"] for event in scene.events] == ["one"]
    assert [line["event"] for line in log_lines.lines] == ["event of a pod could not be written"]
    assert "canary" not in log_lines.text


async def test_an_event_that_the_api_server_has_dropped_is_made_anew() -> None:
    fake = FakeApiServer()
    async with writing(fake) as scene:
        scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: scene.counts == ["written"])
        fake.objects.clear()
        scene.clock.now += 61.0
        scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: scene.counts[-1] == "refused")
        scene.writer.tell(POD, DOWN, "away", warning=True)
        await until(lambda: len(scene.events) == 1)


async def test_nobody_waits_while_the_api_server_hangs() -> None:
    fake = FakeApiServer(answer_delay=asyncio.Event())
    async with writing(fake) as scene:
        for number in range(1000):
            scene.writer.tell(PodRef("payments", f"api-{number}", f"uid-{number}", "api"), DOWN, "away", warning=True)
        assert set(scene.counts) <= {"full", "limited"}
        assert len(scene.counts) >= 700
        assert fake.answer_delay is not None
        fake.answer_delay.set()
        await until(lambda: scene.counts.count("written") > 200)
