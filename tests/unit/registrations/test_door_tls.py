from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest

from agent.registrations.contexts import NodeContexts
from certs.tls import client_context
from kernelsecret.errors import Refused
from kernelsecret.node_api import PATH_REGISTRATIONS, node_host
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID, agent_door


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
        agent.listener._context = NodeContexts().server
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
