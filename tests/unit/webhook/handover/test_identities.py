from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from certs.leaf import load_leaf, node_csr
from kernelsecret.node_api import PATH_IDENTITY, Identity, node_host
from tests.unit.conftest import LogLines
from tests.unit.registrations.scene import NODE, said
from tests.unit.webhook.handover.scene import AUDIENCE, TOKEN, authenticated, identify, post, webhook
from webhook.handover.reviewing import AGENT_USER


async def test_an_agent_gets_a_certificate_for_the_node_of_its_token_and_no_other_name() -> None:
    async with webhook() as door:
        key, csr = node_csr(NODE)
        status, body = await identify(door, csr=csr)
        assert status == 200
        leaf = load_leaf(msgspec.json.decode(body, type=Identity).certificate, key)
        assert leaf.hosts == (node_host(NODE),)
        assert door.answers == ["identity-ok"]


async def test_the_token_is_reviewed_for_our_own_audience() -> None:
    async with webhook() as door:
        await identify(door)
        [review] = door.api.reviews
        assert review["spec"] == {"token": TOKEN, "audiences": [AUDIENCE]}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"authenticated": False}, "not valid"),
        (authenticated(audience="https://kubernetes.default.svc"), "audience"),
        (authenticated() | {"audiences": None}, "audience"),
        (authenticated(user="system:serviceaccount:kernelsecret-system:kernelsecret-webhook"), "only"),
        (authenticated(user="system:serviceaccount:payments:kernelsecret-agent"), "only"),
        (authenticated() | {"user": {"username": AGENT_USER}}, "no node"),
        (authenticated(node=""), "no node"),
        (authenticated(node="node-2"), "not the node of the token"),
    ],
)
async def test_a_token_that_does_not_prove_the_agent_of_the_node_is_refused(status: dict[str, Any], why: str) -> None:
    async with webhook() as door:
        door.api.tokens[TOKEN] = status
        found, body = await identify(door)
        assert found == 403
        assert why in said(body).why + said(body).fix
        assert door.answers == ["identity-permission-denied"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic eHg="}, {"Authorization": "Bearer "}])
async def test_without_a_bearer_token_nobody_is_asked(header: dict[str, str]) -> None:
    async with webhook() as door:
        status, body = await post(door, PATH_IDENTITY, {"node": NODE, "csr": ""}, headers=header)
        assert (status, said(body).field) == (403, "Authorization")
        assert door.api.reviews == []


@pytest.mark.parametrize("csr", ["x", node_csr("node-2")[1], "-----BEGIN CERTIFICATE REQUEST-----\n"])
async def test_a_request_for_another_name_or_of_no_form_is_refused(csr: str) -> None:
    async with webhook() as door:
        status, body = await identify(door, csr=csr)
        assert (status, said(body).field) == (400, "csr")


async def test_a_node_that_asks_too_often_is_sent_away_and_the_others_are_not() -> None:
    async with webhook(identities=2) as door:
        door.api.tokens["other"] = authenticated(node="node-2")
        assert [(await identify(door))[0] for _ in range(3)] == [200, 200, 429]
        assert (await identify(door, node="node-2", token="other"))[0] == 200
        door.clock.move(1)
        assert (await identify(door))[0] == 200


async def test_too_many_at_once_are_sent_away_at_once() -> None:
    async with webhook() as door:
        door.api.answer_delay = asyncio.Event()
        asking = [asyncio.create_task(identify(door)) for _ in range(40)]
        done, pending = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert all(task.result()[0] == 503 for task in done)
        door.api.answer_delay.set()
        results = [(await task)[0] for task in asking]
        assert results.count(200) == 32
        assert results.count(503) == 8
        assert pending


async def test_neither_token_nor_request_is_ever_logged_or_sent_back(log_lines: LogLines) -> None:
    async with webhook() as door:
        answers = [(await identify(door))[1]]
        door.api.tokens[TOKEN] = authenticated(node="node-2")
        answers.append((await identify(door))[1])
        del door.api.tokens[TOKEN]
        answers.append((await identify(door))[1])
        answers.append(
            (await post(door, PATH_IDENTITY, TOKEN.encode(), headers={"Authorization": f"Bearer {TOKEN}"}))[1]
        )
        answers.append((await identify(door, csr=TOKEN))[1])
    assert "canary" not in log_lines.text
    assert not any(b"canary" in answer for answer in answers)
    assert "node certificate issued" in log_lines.text
    assert "node certificate denied" in log_lines.text


async def test_an_address_that_sends_token_after_token_is_not_reviewed_at_the_api_server_s_cost() -> None:
    async with webhook(callers=3) as door:
        door.api.tokens[TOKEN] = {"authenticated": False}
        found = [(await identify(door))[0] for _ in range(5)]
        assert found == [403, 403, 403, 429, 429]
        assert len(door.api.reviews) == 3
        status, body = await identify(door)
        assert (status, said(body).field) == (429, "address 127.0.0.1")
        door.clock.move(1)
        assert (await identify(door))[0] == 403
