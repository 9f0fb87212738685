from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.registrations.contexts import NodeContexts
from agent.registrations.door import TOLD
from certs.signing import sign_registration
from certs.tls import client_context
from kernelsecret.errors import Code, Refused
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


async def test_a_certificate_by_another_authority_gets_no_answer() -> None:
    async with agent_door() as agent:
        stranger = scene.webhook_context(scene.authority(), trusted=agent.issuer)
        with pytest.raises(aiohttp.ClientError):
            await agent.request(agent.sign(), context=stranger)
        assert len(agent.book) == 0


async def test_a_caller_without_a_certificate_gets_no_answer() -> None:
    async with agent_door() as agent:
        with pytest.raises(aiohttp.ClientError):
            await agent.request(agent.sign(), context=client_context(agent.issuer.certificate_pem))


async def test_tls_1_2_is_not_spoken() -> None:
    async with agent_door() as agent:
        context = scene.webhook_context(agent.issuer)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            await agent.request(agent.sign(), context=context)


async def test_before_there_is_an_identity_connections_end_at_once() -> None:
    async with agent_door() as agent:
        agent.door._contexts = NodeContexts()
        with pytest.raises(aiohttp.ClientError):
            await agent.request(agent.sign())


async def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() -> None:
    async with agent_door() as agent:
        context = scene.webhook_context(agent.issuer)
        first = await _connect(agent, context)
        before = await _serial(first, agent)
        agent.contexts.identify(*scene.node_pair(agent.issuer))
        second = await _connect(agent, context)
        assert await _serial(second, agent) != before
        assert await _serial(first, agent) == before
        for _, writer in (first, second):
            writer.close()


async def test_an_authority_that_is_not_trusted_any_more_is_refused_to_new_connections() -> None:
    async with agent_door() as agent:
        old, new = agent.issuer, scene.authority()
        agent.contexts.trust(old.certificate_pem + new.certificate_pem)
        agent.contexts.identify(*scene.node_pair(new))
        both = scene.webhook_context(old, trusted=new)
        assert (await agent.request(agent.sign(), context=both))[0] == 204
        agent.contexts.trust(new.certificate_pem)
        with pytest.raises(aiohttp.ClientError):
            await agent.request(agent.sign(nonce="f" * 32), context=both)
        assert (await agent.request(agent.sign(nonce="f" * 32), context=scene.webhook_context(new)))[0] == 204


async def test_strangers_who_do_not_shake_hands_do_not_keep_the_webhook_out() -> None:
    async with agent_door() as agent:
        strangers = [await asyncio.open_connection(*agent.door.address) for _ in range(20)]
        assert (await agent.request(agent.sign()))[0] == 204
        for _, writer in strangers:
            writer.close()


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


async def test_a_port_that_is_taken_is_named() -> None:
    async with agent_door() as agent, agent_door() as other:
        other.door._port = agent.door.address[1]
        await other.door.stop()
        with pytest.raises(Refused, match="EADDRINUSE"):
            await other.door.start()


def test_the_contexts_do_not_show_their_key() -> None:
    certificate, key = scene.node_pair(scene.authority())
    contexts = NodeContexts()
    contexts.identify(certificate, key)
    assert "BEGIN" not in repr(contexts)
    with pytest.raises(Refused) as refused:
        contexts.identify(certificate, scene.node_pair(scene.authority())[1])
    assert "BEGIN" not in str(refused.value)
    assert refused.value.__cause__ is None


BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
        max_leaves=12,
    ).map(msgspec.json.encode),
    st.fixed_dictionaries(
        {"keyId": st.text(max_size=20), "payload": st.text(max_size=40), "signature": st.text(max_size=100)},
        optional={"version": st.integers()},
    ).map(msgspec.json.encode),
)
PATHS = st.text(st.characters(codec="utf-8", exclude_characters="?#"), max_size=40)


@contextmanager
def standing() -> Iterator[tuple[asyncio.Runner, scene.AgentDoor]]:
    """One door for all examples of a test."""
    with asyncio.Runner() as runner:
        context = agent_door()
        yield runner, runner.run(context.__aenter__())
        runner.run(context.__aexit__(None, None, None))


def test_nothing_that_is_sent_makes_a_500() -> None:
    with standing() as (runner, agent):
        context = scene.webhook_context(agent.issuer)

        @settings(max_examples=200)
        @given(
            method=st.sampled_from(["GET", "PUT", "PUT", "POST", "PATCH"]),
            path=PATHS,
            body=BODIES,
            content_type=st.sampled_from(["application/json", "x"]),
        )
        def send(method: str, path: str, body: bytes, content_type: str) -> None:
            at = f"{PATH_REGISTRATIONS}/{path}"
            sent = agent.request(body, method=method, path=at, context=context, content_type=content_type)
            status, answer = runner.run(sent)
            assert 400 <= status < 500
            assert said(answer).why

        send()
        assert len(agent.book) == 0


def test_a_signed_registration_with_one_byte_changed_is_never_taken() -> None:
    with standing() as (runner, agent):
        context = scene.webhook_context(agent.issuer)
        signed = agent.sign()

        @settings(max_examples=150)
        @given(where=st.integers(0, 10_000), what=st.integers(1, 255))
        def change(where: int, what: int) -> None:
            raw = bytearray(msgspec.json.encode(signed))
            raw[where % len(raw)] ^= what
            status, answer = runner.run(agent.request(bytes(raw), context=context))
            if status in (204, 409):
                # A byte that means nothing: another spelling of what was signed.
                assert msgspec.json.decode(bytes(raw), type=SignedRegistration) == signed
            else:
                assert 400 <= status < 500
                assert said(answer).why

        change()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(agent: scene.AgentDoor, context: ssl.SSLContext) -> Streams:
    return await asyncio.open_connection(*agent.door.address, ssl=context, server_hostname=node_host(NODE))


async def _serial(streams: Streams, agent: scene.AgentDoor) -> str:
    """The serial number that the connection was made with, once it has shown that it still serves."""
    reader, writer = streams
    writer.write(f"GET {PATH_REGISTRATIONS}/{UID} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 404 " in head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    return serial
