"""Tokens are judged by the API server, once each; `tests/apiserver/test_tokens.py` does it with a real one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from agent.kube import token_review
from agent.kube.token_review import TokenVerifier
from agent.model import PodRef
from apiclient.client import ApiClient
from apiclient.connection import Connection
from apiclient.reviews import EXTRA_NODE, EXTRA_POD, EXTRA_POD_UID
from kernelsecret.errors import Code, Refused
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.kube.tokens import NODE, POD, token

EXTRA = {EXTRA_POD: ["api-0"], EXTRA_POD_UID: ["uid-1"], EXTRA_NODE: [NODE]}


class Reviewer(FakeApiServer):
    """Accepts every token, as the pod's own, unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []
        self.authenticated = True
        self.username = "system:serviceaccount:payments:api"
        self.extra: dict[str, list[str]] = dict(EXTRA)
        self.audiences: list[str] | None = None
        self.answer: web.Response | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert (request.method, request.path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        if self.answer is not None:
            return self.answer
        user = {"username": self.username, "extra": self.extra}
        audiences = spec.get("audiences", ["https://kubernetes.default.svc"])
        audiences = self.audiences if self.audiences is not None else audiences
        status = {"authenticated": self.authenticated, "user": user, "audiences": audiences}
        return web.json_response({"kind": "TokenReview", "status": status}, status=201)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def asking(reviewer: Reviewer | None = None, clock: Clock | None = None) -> AsyncIterator[TokenVerifier]:
    async with serving(reviewer or Reviewer()) as url, ApiClient(Connection(url, token="agents")) as client:
        yield TokenVerifier(client, wall_clock=clock or time.time)


async def refused(reviewer: Reviewer, pod: PodRef = POD, made: str = "") -> Refused:
    made = made or token()
    async with asking(reviewer) as verifier:
        with pytest.raises(Refused) as caught:
            await verifier.verified(pod, NODE, {"vault": made})
    assert made not in str(caught.value)
    assert "canary" not in str(caught.value)
    return caught.value


async def test_the_pods_own_tokens_pass_each_asked_for_its_audience() -> None:
    reviewer = Reviewer()
    tokens = {"vault": token(), "": token("https://kubernetes.default.svc")}
    async with asking(reviewer) as verifier:
        found = await verifier.verified(POD, NODE, tokens)
    assert {audience: one.token for audience, one in found.items()} == tokens
    assert all(time.time() < one.ends_s <= time.time() + 600 for one in found.values())
    asked = {spec["token"]: spec.get("audiences") for spec in reviewer.asked}
    assert asked == {tokens["vault"]: ["vault"], tokens[""]: None}


async def test_no_tokens_need_no_question() -> None:
    reviewer = Reviewer()
    async with asking(reviewer) as verifier:
        assert await verifier.verified(POD, NODE, {}) == {}
    assert reviewer.asked == []


async def test_a_token_is_asked_about_once_until_it_ends_or_ten_minutes_have_passed() -> None:
    reviewer, clock = Reviewer(), Clock()
    soon, late = token(exp=int(clock.now) + 60), token(exp=int(clock.now) + 7200)
    async with asking(reviewer, clock) as verifier:
        for _ in range(3):
            await verifier.verified(POD, NODE, {"vault": soon})
            await verifier.verified(POD, NODE, {"vault": late})
        assert len(reviewer.asked) == 2
        clock.now += 599
        await verifier.verified(POD, NODE, {"vault": late})
        assert len(reviewer.asked) == 2
        with pytest.raises(Refused, match="has ended"):
            await verifier.verified(POD, NODE, {"vault": soon})
        clock.now += 2
        await verifier.verified(POD, NODE, {"vault": late})
        assert len(reviewer.asked) == 4


async def test_what_is_remembered_is_compared_with_each_pod_anew() -> None:
    reviewer = Reviewer()
    async with asking(reviewer) as verifier:
        await verifier.verified(POD, NODE, {"vault": token(exp=2**33)})
        other = PodRef("payments", "api-1", "uid-2", "api")
        with pytest.raises(Refused, match=r"pod\.name"):
            await verifier.verified(other, NODE, {"vault": token(exp=2**33)})
        with pytest.raises(Refused, match=r"node\.name"):
            await verifier.verified(POD, "node-2", {"vault": token(exp=2**33)})
    assert len(reviewer.asked) == 1


async def test_a_token_that_passed_for_one_audience_is_asked_about_for_another() -> None:
    reviewer = Reviewer()
    async with asking(reviewer) as verifier:
        made = token()
        await verifier.verified(POD, NODE, {"vault": made})
        reviewer.authenticated = False
        with pytest.raises(Refused, match="does not accept"):
            await verifier.verified(POD, NODE, {"": made})


async def test_so_many_answers_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_review, "MOST_REMEMBERED", 2)
    reviewer = Reviewer()
    async with asking(reviewer) as verifier:
        for signature in ("a", "b", "c", "c", "b", "a"):
            await verifier.verified(POD, NODE, {"vault": token(signature=signature)})
        assert len(verifier._known) == 2
        assert not any("canary" in str(key) or b"eyJ" in key for key in verifier._known)
    assert len(reviewer.asked) == 4


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"authenticated": False}, ""),
        ({"audiences": []}, ".aud"),
        ({"audiences": ["other"]}, ".aud"),
        ({"username": "system:serviceaccount:payments:other"}, ".serviceAccount"),
        ({"username": "system:serviceaccount:shop:api"}, ".serviceAccount"),
        ({"username": "admin"}, ".serviceAccount"),
        ({"extra": EXTRA | {EXTRA_POD: ["api-1"]}}, ".pod.name"),
        ({"extra": EXTRA | {EXTRA_POD_UID: ["uid-2"]}}, ".pod.uid"),
        ({"extra": EXTRA | {EXTRA_POD_UID: ["uid-1", "uid-2"]}}, ".pod.uid"),
        ({"extra": EXTRA | {EXTRA_NODE: ["node-2"]}}, ".node.name"),
        ({"extra": {EXTRA_POD: ["api-0"], EXTRA_POD_UID: ["uid-1"]}}, ".node.name"),
        ({"extra": {}}, ".pod.name"),
    ],
)
async def test_each_thing_that_is_not_the_pods_is_refused_by_its_name(changed: dict[str, Any], field: str) -> None:
    reviewer = Reviewer()
    vars(reviewer).update(changed)
    found = await refused(reviewer)
    assert (found.code, found.field) == (Code.PERMISSION_DENIED, f"serviceAccount.tokens['vault']{field}")


async def test_a_refusal_is_not_remembered() -> None:
    reviewer = Reviewer()
    reviewer.authenticated = False
    async with asking(reviewer) as verifier:
        with pytest.raises(Refused):
            await verifier.verified(POD, NODE, {"vault": token(exp=2**33)})
        reviewer.authenticated = True
        await verifier.verified(POD, NODE, {"vault": token(exp=2**33)})


@pytest.mark.parametrize(
    "answer", [web.Response(status=403), web.Response(status=500), web.Response(text="<html>canary</html>")]
)
async def test_where_the_api_server_cannot_be_asked_nothing_is_said_about_the_token(answer: web.Response) -> None:
    reviewer = Reviewer()
    reviewer.answer = answer
    assert (await refused(reviewer)).code is Code.UNAVAILABLE


async def test_a_wrong_token_is_said_before_an_unanswered_question() -> None:
    class Half(Reviewer):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            self.username = "somebody else"
            answer = await super().handle(request)
            return web.Response(status=503) if self.asked[-1].get("audiences") == ["vault"] else answer

    async with asking(Half()) as verifier:
        with pytest.raises(Refused, match="somebody else"):
            await verifier.verified(POD, NODE, {"vault": token(), "other": token("other")})
