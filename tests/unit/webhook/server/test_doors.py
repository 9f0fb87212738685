from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.conftest import LogLines
from tests.unit.webhook.builders import OPTED_IN, UID, body, interceptor, node, pod, view
from tests.unit.webhook.server.asgi import JSON, Said, ask
from webhook.admission.answer import Answer
from webhook.admission.binding import binding
from webhook.admission.mutate import mutate
from webhook.hints import Hint
from webhook.observe.metrics import Metrics
from webhook.observe.records import Reviewed
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Nodes
from webhook.policy.steps import Doubt
from webhook.policy.view import FixedView
from webhook.server.admission import Door

LIMIT = 100_000


class Scene:
    """A door and all that it told."""

    def __init__(self, judge: Callable[[bytes], Answer], name: str = "mutate", **more: Any) -> None:
        self.metrics = Metrics()
        self.records: list[Reviewed] = []
        self.door = Door(name, judge, self.metrics, self.records.append, max_body=LIMIT, **more)

    def count(self, metric: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"kernelsecret_webhook_{metric}", labels) or 0.0


def mutating(seen: Any = None, **more: Any) -> Scene:
    return Scene(lambda sent: mutate(sent, seen or view()), **more)


def response(said: Said) -> Any:
    assert said.status == 200
    assert said.headers[b"content-type"] == b"application/json"
    return json.loads(said.body)["response"]


async def test_a_pod_that_asks_is_injected_counted_and_audited() -> None:
    scene = mutating()
    assert response(await ask(scene.door, "/mutate", body(pod())))["patchType"] == "JSONPatch"
    assert scene.count("reviews_total", door="mutate", outcome="injected") == 1
    assert scene.count("review_duration_seconds_count", door="mutate") == 1
    assert scene.count("injections_total", mode="ebpf") == 1
    [record] = scene.records
    assert (record.event, record.uid, record.interceptor, record.containers) == ("injected", UID, "payments-db", "app")


async def test_a_pod_that_does_not_ask_leaves_no_record() -> None:
    scene = mutating()
    assert response(await ask(scene.door, "/mutate", body(pod({})))) == {"uid": UID, "allowed": True}
    assert scene.count("reviews_total", door="mutate", outcome="not-asked") == 1
    assert scene.records == []


async def test_a_refusal_is_counted_by_its_rule_and_audited_with_its_reason() -> None:
    scene = mutating(view(namespaces={"payments": {}}))
    said = response(await ask(scene.door, "/mutate", body(pod())))
    assert not said["allowed"]
    assert scene.count("refusals_total", door="mutate", rule="namespace") == 1
    [record] = scene.records
    assert (record.event, record.rule, record.why) == ("refused", "namespace", said["status"]["message"])


async def test_a_review_in_many_parts_is_put_together() -> None:
    whole = body(pod())
    parts = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    assert response(await ask(mutating().door, "/mutate", *parts))["allowed"]


@pytest.mark.parametrize("kind", [b"application/json; charset=utf-8", b"Application/JSON", b"application/json ;x=y"])
async def test_json_is_json_however_its_type_is_written(kind: bytes) -> None:
    assert response(await ask(mutating().door, "/mutate", body(pod()), headers=[(b"content-type", kind)]))["allowed"]


@pytest.mark.parametrize(
    ("headers", "sent", "status", "word"),
    [
        ([], b"{}", 415, "Content-Type"),
        ([(b"content-type", b"text/plain")], b"{}", 415, "Content-Type"),
        ([JSON, (b"content-encoding", b"gzip")], b"{}", 415, "Content-Encoding"),
        ([JSON, (b"content-length", b"100001")], b"", 413, "100000 bytes"),
        ([JSON, (b"content-length", b"9" * 60)], b"", 413, "100000 bytes"),
        ([JSON], b"x" * (LIMIT + 1), 413, "100000 bytes"),
        ([JSON], b"", 400, "empty"),
        ([JSON], b'{"kind":"AdmissionReview"', 400, "JSON"),
        ([JSON], b'{"kind":"\xff"}', 400, "UTF-8"),
        ([JSON], b'{"x":' * 10_000, 400, "nested"),
        ([JSON], b'{"kind":"Pod","apiVersion":"v1"}', 422, "AdmissionReview"),
    ],
)
async def test_what_is_no_review_is_told_so_and_the_connection_ends(
    headers: list[tuple[bytes, bytes]], sent: bytes, status: int, word: str
) -> None:
    scene = mutating()
    said = await ask(scene.door, "/mutate", sent, headers=headers)
    assert said.status == status
    assert word in json.loads(said.body)["error"]
    assert said.headers[b"connection"] == b"close"
    assert scene.count("bad_requests_total", status=str(status)) == 1


async def test_a_body_that_grows_too_large_is_not_read_to_its_end() -> None:
    said = await ask(mutating().door, "/mutate", *[b"x" * 60_000] * 2, b"never asked for", leaves=True)
    assert said.status == 413


async def test_a_client_that_leaves_is_not_answered() -> None:
    scene = mutating()
    assert (await ask(scene.door, "/mutate", b'{"ki', leaves=True)).status == 0
    assert scene.records == []


async def test_an_error_of_our_own_denies_the_review_and_says_only_where_it_was(log_lines: LogLines) -> None:
    def broken(_: bytes) -> Answer:
        raise ValueError("canary-of-an-argument")

    scene = Scene(broken)
    said = response(await ask(scene.door, "/mutate", body(pod())))
    assert (said["uid"], said["allowed"], said["status"]["code"]) == (UID, False, 500)
    assert "canary" not in json.dumps(said)
    assert scene.count("reviews_total", door="mutate", outcome="failed") == 1
    assert scene.count("failures_total", error="ValueError") == 1
    assert scene.records[0].rule == "failed"
    [line] = log_lines.lines
    assert (line["error_class"], line["path"]) == ("ValueError", "/mutate")
    assert "test_doors.py" in line["origin"]
    assert "canary" not in log_lines.text


async def test_an_error_of_our_own_does_not_keep_a_pod_from_its_node() -> None:
    def broken(_: bytes) -> Answer:
        raise RuntimeError

    scene = Scene(broken, "bind")
    assert response(await ask(scene.door, "/bind", body({}))) == {"uid": UID, "allowed": True}
    assert scene.records == []


async def test_an_error_of_our_books_does_not_change_the_answer(log_lines: LogLines) -> None:
    scene = mutating()

    def full(_: Reviewed) -> None:
        raise RuntimeError("canary")

    scene.door._take = full
    assert response(await ask(scene.door, "/mutate", body(pod())))["allowed"]
    assert scene.count("failures_total", error="RuntimeError") == 1
    assert "canary" not in log_lines.text


async def test_a_review_without_a_uid_is_denied_all_the_same_when_we_fail() -> None:
    def broken(_: bytes) -> Answer:
        raise MemoryError

    assert response(await ask(Scene(broken).door, "/mutate", b"\xff"))["uid"] == ""


async def test_a_binding_is_offered_as_a_hint() -> None:
    offered: list[Hint] = []

    def offer(hint: Hint) -> bool:
        offered.append(hint)
        return True

    scene = Scene(lambda sent: binding(sent, offer), "bind")
    made = {"metadata": {"name": "api-0", "namespace": "payments"}, "target": {"kind": "Node", "name": "node-1"}}
    assert response(await ask(scene.door, "/bind", body(made, resource="pods/binding")))["allowed"]
    assert offered == [Hint("payments", "api-0", None, "node-1")]
    assert scene.count("reviews_total", door="bind", outcome="hinted") == 1


async def test_while_it_drains_every_answer_ends_its_connection() -> None:
    draining = False
    scene = mutating(is_draining=lambda: draining)
    assert b"connection" not in (await ask(scene.door, "/mutate", body(pod()))).headers
    draining = True
    assert (await ask(scene.door, "/mutate", body(pod()))).headers[b"connection"] == b"close"


async def test_before_a_refusal_in_doubt_it_looks_again() -> None:
    namespaces: dict[str, dict[str, str]] = {}
    seen = FixedView(Nodes([node()]), Interceptors([interceptor()]), namespaces)

    async def look_again(doubt: Doubt) -> str:
        namespaces[doubt.namespace] = OPTED_IN
        return "a note"

    scene = mutating(seen, look_again=look_again)
    assert response(await ask(scene.door, "/mutate", body(pod())))["allowed"]
    assert [record.event for record in scene.records] == ["injected"]


async def test_behind_what_was_doubtful_it_looks_into_the_next_doubt() -> None:
    """A namespace and an interceptor that were made while the watches were broken."""
    namespaces: dict[str, dict[str, str]] = {}
    interceptors = Interceptors([])
    doubts: list[Doubt] = []

    async def look_again(doubt: Doubt) -> str:
        doubts.append(doubt)
        if doubt.interceptor:
            interceptors.put(interceptor())
        else:
            namespaces[doubt.namespace] = OPTED_IN
        return ""

    scene = mutating(FixedView(Nodes([node()]), interceptors, namespaces), look_again=look_again)
    assert response(await ask(scene.door, "/mutate", body(pod())))["allowed"]
    assert [doubt.namespace for doubt in doubts] == ["payments", "payments"]
    assert [bool(doubt.interceptor) for doubt in doubts] == [False, True]


async def test_looking_ends_before_the_api_server_has_no_more_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.server.admission.LOOK_FOR_S", 0.05)
    namespaces: dict[str, dict[str, str]] = {}

    async def look_again(doubt: Doubt) -> str:
        namespaces[doubt.namespace] = OPTED_IN
        await asyncio.sleep(0.06)
        return ""

    scene = mutating(FixedView(Nodes([node()]), Interceptors([]), namespaces), look_again=look_again)
    message = response(await ask(scene.door, "/mutate", body(pod())))["status"]["message"]
    assert message.endswith("; not all of it could be read again in time: try again")


async def test_a_refusal_that_stands_says_what_the_second_look_has_to_add() -> None:
    async def look_again(_: Doubt) -> str:
        return "what is known is 42 s old"

    scene = mutating(view(namespaces={}), look_again=look_again)
    message = response(await ask(scene.door, "/mutate", body(pod())))["status"]["message"]
    assert message.endswith("; what is known is 42 s old")
    assert scene.records[0].why == message


async def test_a_refusal_that_was_made_sure_of_says_nothing_more() -> None:
    async def look_again(_: Doubt) -> str:
        return ""

    unsure, sure = mutating(view(namespaces={})), mutating(view(namespaces={}), look_again=look_again)
    answers = [await ask(scene.door, "/mutate", body(pod())) for scene in (unsure, sure)]
    assert answers[0] == answers[1]
