"""Reviews that are none: each becomes a clear 4xx, or a denial where the request is known; nothing else is raised."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.webhook.builders import UID, body, mutated, pod, response, review, view
from webhook.admission.answer import Answer, Outcome
from webhook.admission.binding import binding
from webhook.admission.mutate import mutate
from webhook.admission.review import MAX_BYTES, BadReview, allowed, denied
from webhook.admission.validate import validate

DOORS: dict[str, Callable[[bytes], Answer]] = {
    "mutate": lambda sent: mutate(sent, view()),
    "validate": lambda sent: validate(sent, view()),
    "binding": lambda sent: binding(sent, lambda hint: True),
}
every_door = pytest.mark.parametrize("door", DOORS)


def encoded(thing: Any) -> bytes:
    return json.dumps(thing).encode()


def requested(**changes: Any) -> bytes:
    """A review whose request has fields changed; None removes."""
    made = review(pod())
    for name, value in changes.items():
        made["request"][name] = value
        if value is None:
            del made["request"][name]
    return encoded(made)


@every_door
@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"", 400, "the body is empty; it must be an AdmissionReview of admission.k8s.io/v1"),
        (b" ", 400, "the body is not JSON"),
        (b"null", 422, "(the whole object): expected object, got null"),
        (b"[]", 422, "expected object, got array"),
        (b"{}", 422, "kind: '' is not AdmissionReview"),
        (body(pod())[:-20], 400, "the body is not JSON"),
        (body(pod())[:-1], 400, "the body is not JSON"),
        (body(pod()) + b"{}", 400, "the body is not JSON"),
        (b'{"kind":"\xff\xfe"}', 400, "the body is not UTF-8"),
        (b'{"other":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "the body is nested too deeply"),
        (b"[" * 10_000, 422, "expected object, got array"),
        (b'{"request":{"object":' + b'{"spec":' * 10_000, 400, "the body is nested too deeply"),
        (b" " * (MAX_BYTES + 1), 413, f"the body has {MAX_BYTES + 1} bytes, at most {MAX_BYTES} are read"),
        (
            encoded({**review(pod()), "apiVersion": "admission.k8s.io/v1beta1"}),
            422,
            "apiVersion: 'admission.k8s.io/v1beta1' is not admission.k8s.io/v1; list v1 in admissionReviewVersions",
        ),
        (encoded({**review(pod()), "kind": "Pod"}), 422, "kind: 'Pod' is not AdmissionReview"),
        (encoded({**review(pod()), "kind": 7}), 422, "not an AdmissionReview: kind: expected str, got int"),
        (encoded({**review(pod()), "request": None}), 422, "request: missing"),
        (encoded({**review(pod()), "request": []}), 422, "expected object"),
        (requested(uid=None), 422, "request.uid: missing"),
        (requested(uid=""), 422, "request.uid: missing"),
        (requested(uid=5), 422, "request.uid: expected str, got int"),
        (requested(uid="x" * 1000), 422, "request.uid: too long"),
        (requested(uid=None, object="x"), 422, "request.uid: missing"),
    ],
)
def test_what_cannot_be_answered_is_a_clear_4xx(door: str, sent: bytes, status: int, words: str) -> None:
    with pytest.raises(BadReview) as caught:
        DOORS[door](sent)
    assert caught.value.status == status
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("door", ["mutate", "validate"])
@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (requested(operation="DELETE"), 422, "request: DELETE of pods is not asked about here"),
        (requested(operation="CONNECT"), 422, "CONNECT of pods"),
        (requested(operation=None), 422, "no operation of pods"),
        (requested(operation=7), 422, "request.operation: expected str, got int"),
        (requested(resource=None), 422, "CREATE of nothing"),
        (requested(resource={"group": "apps", "version": "v1", "resource": "deployments"}), 422, "deployments.apps"),
        (requested(resource={"group": "other", "version": "v1", "resource": "pods"}), 422, "CREATE of pods.other"),
        (requested(subResource="exec"), 422, "CREATE of pods/exec"),
        (requested(object=None), 400, "request.object: missing"),
        (encoded(review(None)), 400, "request.object: missing"),
        (encoded(review([])), 422, "object"),
        (encoded(review("pod")), 422, "object"),
        (encoded(review(pod(containers={}))), 422, "containers: expected array"),
        (encoded(review(pod(volumes=[7]))), 422, "spec.volumes[0]: expected object, got int"),
        (encoded(review({"metadata": {"annotations": {"a": 1}}})), 422, "expected str, got int"),
        (encoded(review({"metadata": None})), 422, "metadata: expected object"),
    ],
)
def test_what_can_be_answered_is_denied_with_the_reason(door: str, sent: bytes, code: int, words: str) -> None:
    answer = DOORS[door](sent)
    said = response(answer)
    assert (answer.outcome, answer.uid, answer.rule, answer.dry_run) == (Outcome.MALFORMED, UID, "review", False)
    assert (said["allowed"], said["status"]["code"], said["status"]["status"]) == (False, code, "Failure")
    assert words in said["status"]["message"]
    assert said["status"]["message"] == answer.message


def test_an_update_without_the_old_object_is_denied() -> None:
    said = response(validate(body(pod(), operation="UPDATE"), view()))
    assert said["status"]["message"].endswith("request.oldObject: missing, but pods is written")


def test_what_is_skipped_on_the_way_in_is_still_read_with_care() -> None:
    sent = body(pod()).replace(b'"app:1"', b'"\xff"')
    assert not response(validate(sent.replace(b'"name": "app"', b'"name": "\xff"'), view()))["allowed"]


def test_the_limit_is_the_caller_s() -> None:
    sent = body(pod())
    assert mutate(sent, view(), limit=len(sent)).outcome is Outcome.INJECTED
    with pytest.raises(BadReview, match="at most"):
        mutate(sent, view(), limit=len(sent) - 1)


def test_a_review_of_a_later_api_server_with_fields_that_nobody_knows_is_read() -> None:
    made = review({**pod(), "new": {"deep": [1]}})
    made["request"]["newField"] = {"x": []}
    made["response"] = None
    assert mutate(encoded(made), view()).outcome is Outcome.INJECTED


def test_answers_have_what_the_api_server_needs_and_nothing_empty() -> None:
    assert json.loads(allowed("u")) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True},
    }
    assert json.loads(denied("u", 403, "no", warnings=["w"], audit={"rule": "x"}))["response"] == {
        "uid": "u",
        "allowed": False,
        "status": {"status": "Failure", "message": "no", "reason": "Forbidden", "code": 403},
        "warnings": ["w"],
        "auditAnnotations": {"rule": "x"},
    }


def test_facts_for_the_records_are_those_of_the_review() -> None:
    answer = mutate(body(pod(), dryRun=True, userInfo={"username": "jane"}), view())
    facts = (UID, "CREATE", "pods", "payments", "api-*", True, "", "", "payments-db", "ebpf", "app", "jane")
    assert answer._replace(body=b"") == Answer(b"", Outcome.INJECTED, *facts)
    assert response(answer)["auditAnnotations"] == {
        "decision": "injected",
        "interceptor": "payments-db",
        "mode": "ebpf",
    }
    refused = mutate(body(pod(hostUsers=False)), view())
    assert response(refused)["auditAnnotations"] == {"decision": "refused", "rule": "mode"}
    assert (refused.rule, refused.name, refused.interceptor) == ("mode", "api-*", "")
    assert refused.user == "system:serviceaccount:kube-system:replicaset-controller"


def test_the_namespace_is_the_request_s_and_only_else_the_pod_s() -> None:
    elsewhere = pod()
    elsewhere["metadata"]["namespace"] = "kube-system"
    assert mutate(body(elsewhere), view()).outcome is Outcome.INJECTED
    assert mutate(body(pod(), namespace=""), view()).outcome is Outcome.INJECTED


json_things = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "containers", "name", "annotations", "volumes", "csi", "driver", "target", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@every_door
@given(sent=st.binary(max_size=200))
@example(sent=b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"\\ud800"}}')
@example(sent=b"\xef\xbb\xbf{}")
def test_no_bytes_raise_anything_but_bad_review(door: str, sent: bytes) -> None:
    try:
        DOORS[door](sent)
    except BadReview as bad:
        assert 400 <= bad.status < 500  # noqa: PT017 - most bytes are no review, but not all


@every_door
@given(where=st.integers(0, 2000), what=st.binary(min_size=1, max_size=3))
def test_no_damage_on_the_way_raises_anything_but_bad_review(door: str, where: int, what: bytes) -> None:
    whole = body(mutated(pod()))
    try:
        DOORS[door](whole[:where] + what + whole[where + len(what) :])
    except BadReview as bad:
        assert 400 <= bad.status < 500  # noqa: PT017 - most damage is seen, but not all


@every_door
@given(
    thing=json_things,
    old=json_things,
    operation=st.sampled_from(["CREATE", "UPDATE", "DELETE", ""]),
    resource=st.sampled_from(
        ["pods", "pods/binding", "pods/ephemeralcontainers", "secretinterceptors.kernelsecret.io"]
    ),
)
def test_no_json_in_a_review_is_more_than_a_yes_or_a_no(
    door: str, thing: Any, old: Any, operation: str, resource: str
) -> None:
    answer = DOORS[door](body(thing, old=old, operation=operation, resource=resource))
    assert response(answer)["allowed"] in (True, False)


@every_door
@given(thing=json_things)
def test_no_json_raises_anything_but_bad_review(door: str, thing: Any) -> None:
    for sent in (thing, {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": thing}):
        with pytest.raises(BadReview):
            DOORS[door](encoded(sent))
