"""Whatever is sent, the application answers: a review with its uid, or a 4xx that says what is wrong. Never a 500."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.unit.webhook.builders import UID, body, pod, review
from tests.unit.webhook.server.asgi import JSON, Said, ask
from tests.unit.webhook.server.parts import Parts

DOORS = ("/mutate", "/validate", "/bind")
TARGETS = (
    "pods",
    "pods/binding",
    "bindings",
    "pods/ephemeralcontainers",
    "secretinterceptors.kernelsecret.io",
    "nodes",
)

doors = st.sampled_from(DOORS)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=20)
names = st.sampled_from(["metadata", "spec", "containers", "volumes", "annotations", "labels", "name", "csi"])
things = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
reviews = st.builds(
    lambda made, old, operation, resource: review(made, old=old, operation=operation, resource=resource),
    things,
    things,
    st.sampled_from(["CREATE", "UPDATE", "DELETE", "CONNECT", "", "create"]),
    st.sampled_from(TARGETS),
)


def asked(path: str, *chunks: bytes, **more: Any) -> Said:
    parts = Parts()
    said = asyncio.run(ask(parts.app(), path, *chunks, **more))
    assert said.status == 200 or 400 <= said.status < 500, said
    failed = [sample for family in parts.metrics.registry.collect() for sample in family.samples]
    assert not [one for one in failed if one.name == "kernelsecret_webhook_failures_total" and one.value], said
    if said.status == 200:
        told = json.loads(said.body)
        assert told["response"]["uid"]
        assert told["response"]["allowed"] or told["response"]["status"]["message"]
    else:
        assert json.loads(said.body)["error"]
    return said


@given(doors, st.lists(st.binary(max_size=300), max_size=4))
def test_bytes(path: str, chunks: list[bytes]) -> None:
    assert asked(path, *chunks).status != 200


@given(doors, things)
def test_json_that_is_no_review(path: str, thing: Any) -> None:
    asked(path, json.dumps(thing).encode())


@given(doors, reviews)
def test_reviews_of_anything(path: str, made: Any) -> None:
    said = asked(path, json.dumps(made).encode())
    assert said.status == 200
    assert json.loads(said.body)["response"]["uid"] == UID


@given(doors, st.data())
def test_a_review_with_one_thing_in_its_place(path: str, data: st.DataObject) -> None:
    made = review(pod(), resource=data.draw(st.sampled_from(TARGETS)))
    place: Any = made
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(things)
    asked(path, json.dumps(made).encode())


@given(doors, st.integers(0, len(body(pod())) - 1))
def test_a_review_that_is_cut_short(path: str, end: int) -> None:
    assert asked(path, body(pod())[:end]).status == 400


@given(doors, st.integers(0, len(body(pod())) - 1), st.integers(0, 255))
def test_a_review_with_a_changed_byte(path: str, at: int, value: int) -> None:
    sent = bytearray(body(pod()))
    sent[at] = value
    asked(path, bytes(sent))


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    "thing",
    [
        '{"metadata":' * 10_000,
        "[" * 100_000,
        '{"metadata":' + '{"a":' * 9_999 + "1" + "}" * 10_000,
        '"' + "x" * (3 << 20) + '"',
        '{"spec":{"containers":[' + ",".join(["{}"] * 20_000) + "]}}",
        "1e400",
        '"\\ud800"',
        "null",
    ],
)
def test_objects_that_are_deep_large_or_odd(path: str, thing: str) -> None:
    envelope = json.dumps(review("@"))
    asked(path, envelope.replace('"@"', thing).encode())


headers = st.lists(
    st.tuples(
        st.sampled_from([b"content-type", b"content-length", b"content-encoding", b"expect", b"x"]),
        st.binary(max_size=20) | st.just(JSON[1]),
    ),
    max_size=5,
)


@given(doors, headers)
def test_any_headers(path: str, given_headers: list[tuple[bytes, bytes]]) -> None:
    asked(path, body(pod()), headers=given_headers)


# The same from the other side: what the schema of the API allows, and what it forbids.

META = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
REVIEW = {
    "type": "object",
    "required": ["apiVersion", "kind", "request"],
    "properties": {
        "apiVersion": {"enum": ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"]},
        "kind": {"type": "string", "const": "AdmissionReview"},
        "request": {
            "type": "object",
            "required": ["uid", "operation", "resource"],
            "properties": {
                "uid": {"type": "string"},
                "operation": {"enum": ["CREATE", "UPDATE", "DELETE", "CONNECT"]},
                "resource": {
                    "type": "object",
                    "properties": {"group": {"type": "string"}, "resource": {"enum": ["pods", "bindings", "nodes"]}},
                },
                "subResource": {"enum": ["", "binding", "ephemeralcontainers"]},
                "namespace": {"type": "string"},
                "dryRun": {"type": "boolean"},
                "object": {"type": "object", "properties": {"metadata": META, "spec": {"type": "object"}}},
                "oldObject": {"type": "object", "nullable": True},
            },
        },
    },
}
OPERATION = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": REVIEW}}},
    "responses": {"200": {"description": "an answer"}, "4XX": {"description": "no review"}},
}
SCHEMA = schemathesis.openapi.from_dict(
    {
        "openapi": "3.0.3",
        "info": {"title": "admission", "version": "1"},
        "paths": {path: {"post": OPERATION} for path in DOORS},
    }
)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", DOORS)
def test_what_a_schema_allows_and_forbids(path: str, mode: GenerationMode) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(SCHEMA[path]["POST"].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        sent = case.body if isinstance(case.body, bytes) else json.dumps(case.body, default=str).encode()
        kind = case.media_type or "application/json"
        asked(path, sent, headers=[(b"content-type", kind.encode())])

    run()
