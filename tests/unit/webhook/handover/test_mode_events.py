"""Events that say which mode a pod was given: what they say, once each, bounded, and lost without a trace of harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from apiclient.client import ApiClient
from apiclient.connection import Connection
from kernelsecret.names import ANNOTATION_DECISION, ANNOTATION_MODE, CONTAINER_VAULT_AGENT
from tests.unit.apiclient.things import until
from tests.unit.registrations.scene import UID
from tests.unit.webhook.handover.scene import pod as bound_pod
from tests.unit.webhook.handover.test_sender import HINT, sending
from webhook.handover.mode_events import ModeEvents
from webhook.handover.sender import Outcome
from webhook.policy.pods import Pod, read_pod

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
CHOSEN = "mode ebpf: it works on each of the 3 nodes that the pod can land on"
FELL_BACK = "mode preload: it works on each of the 3 nodes that the pod can land on; not ebpf: it works on 1 of 3"


def decided(sentence: str = CHOSEN, **annotations: str) -> Pod:
    made = bound_pod()
    made["metadata"]["annotations"] |= {ANNOTATION_DECISION: sentence, **annotations}
    return read_pod(msgspec.json.encode(made))


@dataclass
class Api:
    """Takes Events; `statuses` are the answers to the next ones, 201 when there is none."""

    taken: list[tuple[str, dict[str, Any]]]
    statuses: list[int]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.taken.append((request.path, await request.json()))
        status = self.statuses.pop(0) if self.statuses else 201
        return web.json_response({"kind": "Status", "status": "Failure" if status > 201 else "Success"}, status=status)


@dataclass
class Telling:
    events: ModeEvents
    api: Api
    results: list[str]

    async def after(self, count: int) -> None:
        await until(lambda: len(self.results) >= count)


@asynccontextmanager
async def telling(*statuses: int, runs: bool = True, **given: Any) -> AsyncIterator[Telling]:
    api, results = Api([], list(statuses)), list[str]()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with ApiClient(Connection(f"http://{host}:{port}")) as client:
        events = ModeEvents(client, "replica-1", lambda: NOW, count=results.append, **given)
        running = asyncio.create_task(events.run()) if runs else None
        try:
            yield Telling(events, api, results)
        finally:
            if running:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            await runner.cleanup()


async def test_the_event_says_what_the_annotation_says_about_the_pod_that_it_is_on() -> None:
    async with telling() as told:
        told.events.tell(decided())
        await told.after(1)
        [(path, event)] = told.api.taken
        assert path == "/apis/events.k8s.io/v1/namespaces/payments/events"
        assert (event["reason"], event["action"], event["type"], event["note"]) == (
            "ModeChosen",
            "ChooseMode",
            "Normal",
            CHOSEN,
        )
        assert event["regarding"] == {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "payments",
            "name": "api-0",
            "uid": UID,
        }
        assert (event["reportingController"], event["reportingInstance"]) == ("kernelsecret.io/webhook", "replica-1")
        assert event["eventTime"] == "2026-01-02T03:04:05.000006Z"
        assert told.results == ["written"]


@pytest.mark.parametrize(
    ("pod", "kind"),
    [
        (decided(FELL_BACK), "Warning"),
        (decided(FELL_BACK, **{ANNOTATION_MODE: "auto"}), "Warning"),
        (decided(FELL_BACK, **{ANNOTATION_MODE: "preload"}), "Normal"),
    ],
)
async def test_a_mode_that_nobody_asked_for_and_is_not_the_first_is_a_warning(pod: Pod, kind: str) -> None:
    async with telling() as told:
        told.events.tell(pod)
        await told.after(1)
        assert told.api.taken[0][1]["type"] == kind


async def test_what_is_told_twice_is_one_event_by_its_name() -> None:
    async with telling(201, 409) as told:
        told.events.tell(decided())
        await told.after(1)
        told.events.tell(decided())
        await told.after(2)
        assert told.api.taken[0][1]["metadata"] == told.api.taken[1][1]["metadata"]
        assert told.results == ["written", "known"]


async def test_a_sentence_that_somebody_else_wrote_is_shown_in_one_line_within_bounds() -> None:
    async with telling() as told:
        told.events.tell(decided("mode x: \n\u202e" + "\u00e4" * 5000))
        await told.after(1)
        note = told.api.taken[0][1]["note"]
        assert len(note.encode()) <= 1024
        assert "\n" not in note
        assert "\u202e" not in note


@pytest.mark.parametrize("pod", [decided(""), read_pod(b"{}")])
async def test_a_pod_without_a_decision_is_passed_over(pod: Pod) -> None:
    async with telling(runs=False, limit=0) as told:
        told.events.tell(pod)
        assert told.results == []


async def test_when_too_many_wait_the_newest_are_lost_and_counted() -> None:
    async with telling(runs=False, limit=2) as told:
        for _ in range(5):
            told.events.tell(decided())
        assert told.results == ["full"] * 3


@pytest.mark.parametrize(("status", "result"), [(500, "away"), (403, "refused"), (422, "refused")])
async def test_what_the_api_server_does_not_take_is_counted_and_the_next_one_is_told(
    status: int, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webhook.handover.mode_events.AWAY_PAUSE_S", 0.0)
    async with telling(status) as told:
        told.events.tell(decided())
        await told.after(1)
        told.events.tell(decided())
        await told.after(2)
        assert told.results == [result, "written"]


async def test_a_bound_pod_is_told_of_once_it_has_a_node_and_also_with_a_vault_agent_of_its_own() -> None:
    told: list[Pod] = []
    async with sending(on_bound=told.append) as sent:
        await sent.webhook.api.put_pod()
        assert await sent.send() is Outcome.DELIVERED
        own = bound_pod()
        own["spec"] |= {"volumes": [], "initContainers": [{"name": CONTAINER_VAULT_AGENT}]}
        own["metadata"]["annotations"]["kernelsecret.io/chosen-mode"] = "vault-agent"
        await sent.webhook.api.put("pods", "api-0", "payments", **own)
        assert await sent.send() is Outcome.NOT_NEEDED
        assert [pod.metadata.uid for pod in told] == [UID, UID]
        assert len(sent.agent.registered) == 1
        assert await sent.send(HINT._replace(name="gone")) is Outcome.GONE
        assert len(told) == 2
