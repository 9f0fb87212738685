from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agent.registrations.door import TOLD
from certs.signing import sign_registration
from kernelsecret.errors import Code
from kernelsecret.node_api import MAX_BODY, PATH_REGISTRATIONS, node_host
from kernelsecret.registration import Registration, SignedRegistration
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID, agent_door, said


async def test_a_signed_registration_is_held_and_told_once() -> None:
    async with agent_door() as agent:
        assert await agent.request(agent.sign()) == (204, b"")
        held = agent.book.get(UID)
        assert held is not None
        assert [held.registration] == agent.registered == [scene.registration(agent.clock)]
        assert agent.refused == []


async def test_what_is_held_is_given_back_exactly_as_signed() -> None:
    async with agent_door() as agent:
        signed = agent.sign()
        await agent.request(signed)
        status, body = await agent.request(method="GET")
        assert status == 200
        assert msgspec.json.decode(body, type=SignedRegistration) == signed


async def test_what_is_not_held_any_more_is_not_found() -> None:
    async with agent_door() as agent:
        assert (await agent.request(method="GET"))[0] == 404
        await agent.request(agent.sign())
        agent.clock.move(601)
        status, body = await agent.request(method="GET")
        assert status == 404
        assert said(body).code == "NOT_FOUND"


async def test_the_same_registration_again_is_a_replay_and_is_told() -> None:
    async with agent_door() as agent:
        signed = agent.sign()
        await agent.request(signed)
        status, body = await agent.request(signed)
        assert (status, said(body).field) == (409, "registration.nonce")
        assert [(uid, refused.code) for uid, refused in agent.refused] == [(UID, Code.ALREADY_EXISTS)]
        assert len(agent.registered) == 1


@pytest.mark.parametrize(
    ("changed", "status", "field"),
    [
        ({"node": "node-2"}, 403, "registration.node"),
        ({"pod_uid": "another"}, 400, "registration.podUid"),
        ({"expires_at": -1}, 403, "payload.expiresAt"),
        ({"expires_at": 86_400}, 403, "payload.expiresAt"),
        ({"nonce": "short"}, 400, "payload.nonce"),
        ({"namespace": ""}, 400, "payload.namespace"),
        ({"version": 2}, 400, "payload.version"),
    ],
)
async def test_a_registration_that_is_not_for_this_node_and_moment_is_refused_by_its_field(
    changed: dict[str, Any], status: int, field: str
) -> None:
    async with agent_door() as agent:
        if "expires_at" in changed:
            changed = {"expires_at": agent.clock.now() + timedelta(seconds=changed["expires_at"])}
        found, body = await agent.request(agent.sign(**changed))
        assert (found, said(body).field) == (status, field)
        assert len(agent.book) == 0
        assert agent.registered == []


async def test_a_changed_payload_is_refused() -> None:
    async with agent_door() as agent:
        signed = agent.sign()
        forged = signed.payload.replace(b"payments-db", b"payments-dc")
        status, body = await agent.request(msgspec.structs.replace(signed, payload=forged))
        assert (status, said(body).field) == (403, "signature")


async def test_a_key_that_is_not_trusted_is_refused() -> None:
    async with agent_door() as agent:
        stranger = sign_registration(scene.key(), scene.registration(agent.clock))
        status, body = await agent.request(stranger)
        assert (status, said(body).field) == (403, "keyId")


async def test_the_old_key_is_taken_while_both_are_trusted_and_not_afterwards() -> None:
    async with agent_door() as agent:
        old = agent.keys[0]
        agent.keys.append(scene.key())
        assert (await agent.request(agent.sign()))[0] == 204
        agent.keys.remove(old)
        late = sign_registration(old, scene.registration(agent.clock, nonce="f" * 32))
        assert (await agent.request(late))[0] == 403
        assert (await agent.request(agent.sign(nonce="e" * 32)))[0] == 204


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 10_000,
        b'{"keyId": "a"}',
        b'{"keyId": "a", "payload": "!", "signature": "", "version": 1}',
        b'{"keyId": "a", "payload": "e30=", "signature": "", "more": 1}',
    ],
)
async def test_garbage_is_a_clear_400(body: bytes) -> None:
    async with agent_door() as agent:
        status, answer = await agent.request(body)
        assert (status, said(answer).code) == (400, "INVALID_ARGUMENT")


async def test_a_body_that_is_too_long_is_refused_before_it_is_read_whole() -> None:
    async with agent_door() as agent:
        status, answer = await agent.request(b" " * (MAX_BODY + 1))
        assert (status, said(answer).code) == (413, "INVALID_ARGUMENT")


async def test_another_content_type_is_refused() -> None:
    async with agent_door() as agent:
        status, answer = await agent.request(agent.sign(), content_type="text/yaml")
        assert status == 415
        assert "application/json" in said(answer).why


@pytest.mark.parametrize(("method", "path"), [("POST", f"{PATH_REGISTRATIONS}/{UID}"), ("DELETE", "/"), ("GET", "/x")])
async def test_other_methods_and_paths_are_refused_as_documents(method: str, path: str) -> None:
    async with agent_door() as agent:
        status, answer = await agent.request(method=method, path=path)
        assert status in (404, 405)
        assert said(answer).field == "request"


async def test_a_certificate_of_a_node_is_refused_though_its_authority_is_trusted() -> None:
    async with agent_door() as agent:
        for node in (NODE, "node-2"):
            status, answer = await agent.request(agent.sign(), context=scene.node_context(agent.issuer, node))
            assert (status, said(answer).field) == (403, "client certificate")
            assert node_host(node) in said(answer).why
        assert len(agent.book) == 0
        assert len(agent.refused) == 2


async def test_a_node_may_not_even_ask_what_is_held() -> None:
    async with agent_door() as agent:
        await agent.request(agent.sign())
        status, _ = await agent.request(method="GET", context=scene.node_context(agent.issuer))
        assert status == 403


async def test_what_a_listener_raises_is_logged_and_the_registration_is_held(log_lines: LogLines) -> None:
    def fails(_: Registration) -> None:
        raise ValueError("canary-of-a-listener")

    async with agent_door(fails) as agent:
        assert (await agent.request(agent.sign()))[0] == 204
        assert agent.book.get(UID) is not None
    assert "ValueError" in log_lines.text
    assert "canary" not in log_lines.text


async def test_whoever_is_refused_over_and_over_does_not_fill_the_audit_trail(log_lines: LogLines) -> None:
    async with agent_door() as agent:
        context = scene.node_context(agent.issuer, "node-2")
        for _ in range(40):
            assert (await agent.request(agent.sign(), context=context))[0] == 403
        assert len(agent.refused) == TOLD
        agent.clock.move(1)
        await agent.request(agent.sign(), context=context)
        assert len(agent.refused) == TOLD + 1
    assert '"dropped":8' in log_lines.text
