"""Bindings: always allowed, and a hint where there is one to be had."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.webhook.builders import UID, body, response
from webhook.admission.answer import Outcome
from webhook.admission.binding import binding
from webhook.hints import Hint

POD_UID = "0b1f5a52-9d2c-4a53-8f4e-2f1f3c6c7d11"
BINDING: Any = {
    "apiVersion": "v1",
    "kind": "Binding",
    "metadata": {"name": "api-0", "namespace": "payments", "uid": POD_UID},
    "target": {"kind": "Node", "name": "node-1"},
}
HINT = Hint("payments", "api-0", POD_UID, "node-1")


def hints_of(thing: Any, **more: Any) -> list[Hint]:
    taken: list[Hint] = []

    def take(hint: Hint) -> bool:
        taken.append(hint)
        return True

    answer = binding(body(thing, **{"resource": "pods/binding", **more}), take)
    assert response(answer) == {"uid": UID, "allowed": True}
    assert (answer.outcome is Outcome.HINTED) == bool(taken)
    return taken


@pytest.mark.parametrize("resource", ["pods/binding", "bindings"])
def test_both_ways_to_bind_a_pod_give_a_hint(resource: str) -> None:
    assert hints_of(BINDING, resource=resource) == [HINT]


def test_what_a_client_leaves_out_is_taken_from_the_request_or_left_open() -> None:
    bare = {"metadata": {}, "target": {"name": "node-1"}}
    assert hints_of(bare, name="api-0") == [HINT._replace(uid=None)]


@pytest.mark.parametrize(
    ("thing", "more"),
    [
        (BINDING, {"dryRun": True}),
        (BINDING, {"operation": "UPDATE"}),
        (BINDING, {"resource": "pods"}),
        (BINDING, {"resource": "bindings.other.io"}),
        ({**BINDING, "target": {"kind": "Node", "name": ""}}, {}),
        ({**BINDING, "target": {"kind": "Service", "name": "x"}}, {}),
        ({**BINDING, "metadata": {}}, {}),
        ({**BINDING, "metadata": {"name": "api-0"}}, {"namespace": ""}),
        (None, {}),
        ([], {}),
        ({"metadata": 5}, {}),
    ],
)
def test_what_gives_no_hint_is_allowed_all_the_same(thing: Any, more: dict[str, Any]) -> None:
    assert hints_of(thing, **more) == []


def test_a_hint_that_nobody_takes_holds_nothing_up() -> None:
    answer = binding(body(BINDING, resource="pods/binding"), lambda hint: False)
    assert (answer.outcome, answer.name) == (Outcome.ALLOWED, "api-0")
    assert response(answer)["allowed"]
