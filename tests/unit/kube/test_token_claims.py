"""Without an API server a token is judged by what it says of itself; it never shows in what is said of it."""

from __future__ import annotations

import dataclasses
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.credentials import PodToken
from agent.kube.token_claims import claimed, claims_of
from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from tests.unit.kube.tokens import NODE, POD, raw_token, token


def _outcome(made: str, audience: str, pod: PodRef) -> tuple[dict[str, PodToken], Refused | None]:
    try:
        return claimed(pod, NODE, {audience: made}, now_s=time.time()), None
    except Refused as refused:
        return {}, refused


def judged(made: str, audience: str = "vault", pod: PodRef = POD) -> str:
    """The field that is refused, "" where none is."""
    found, refused = _outcome(made, audience, pod)
    if refused is not None:
        assert refused.code is Code.PERMISSION_DENIED
        assert "canary" not in str(refused)
        assert not made or made not in str(refused)
        return refused.field
    assert found[audience].token == made
    assert found[audience].ends_s > time.time()
    return ""


def test_the_pods_own_token_passes_with_its_end() -> None:
    assert judged(token()) == ""
    assert judged(token(aud="vault")) == ""
    assert judged(token("https://kubernetes.default.svc"), audience="") == ""


def test_a_token_that_says_no_node_passes_where_only_claims_are_looked_at() -> None:
    assert judged(token(k__node=None)) == ""


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"aud": ["other"]}, "aud"),
        ({"aud": []}, "aud"),
        ({"exp": 1}, "exp"),
        ({"exp": None}, "exp"),
        ({"sub": "system:serviceaccount:payments:other"}, "sub"),
        ({"k__namespace": "shop"}, "sub"),
        ({"sub": "system:serviceaccount:payments:other", "k__serviceaccount": {"name": "other"}}, "serviceAccount"),
        ({"sub": "system:serviceaccount:shop:api", "k__namespace": "shop"}, "serviceAccount"),
        ({"k__pod__name": "api-1"}, "pod.name"),
        ({"k__pod__uid": "uid-2"}, "pod.uid"),
        ({"k__pod": None}, "pod.name"),
        ({"k__node__name": "node-2"}, "node.name"),
    ],
)
def test_each_thing_that_is_not_the_pods_is_refused_by_its_name(changed: dict[str, Any], field: str) -> None:
    assert judged(token(**changed)) == f"serviceAccount.tokens['vault'].{field}"


@pytest.mark.parametrize("field", ["namespace", "name", "uid", "service_account"])
def test_the_token_of_one_pod_is_no_other_pods(field: str) -> None:
    assert judged(token(), pod=dataclasses.replace(POD, **{field: "other"})) != ""


def test_a_pod_without_a_uid_has_no_token() -> None:
    assert judged(token(k__pod__uid=""), pod=dataclasses.replace(POD, uid="")).endswith("pod.uid")


@pytest.mark.parametrize(
    "made",
    [
        *("", "canary", "a.b", "a.b.c.d", "a.%%.c", "a.bü.c", raw_token(b"[]"), raw_token(b"{"), raw_token(b"\xff")),
        *(raw_token(b'{"exp": "soon"}'), raw_token(b'{"sub": 7}'), raw_token(b"[" * 5000), raw_token(b'{"aud": {}}')),
    ],
)
def test_what_is_no_token_is_refused_in_its_own_words(made: str) -> None:
    assert judged(made) == "serviceAccount.tokens['vault']"


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(raw_token)))
def test_no_text_is_more_than_refused(made: str) -> None:
    with suppress(Refused):
        assert claims_of(made, "vault") is not None


def test_one_wrong_token_of_several_refuses_all() -> None:
    with pytest.raises(Refused, match="'other'"):
        claimed(POD, NODE, {"vault": token(), "other": token()}, now_s=time.time())
