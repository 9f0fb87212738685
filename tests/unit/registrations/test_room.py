"""Everything together: a node that starts with nothing but an API server and a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.model import PodRef
from agent.registrations.room import RegistrationRoom, RoomEvents, RoomSettings
from certs.authority import Authority
from certs.signing import SigningKey
from kernelsecret.errors import Code, Refused
from kernelsecret.names import SYSTEM_NAMESPACE, TRUST_OBJECT
from kernelsecret.node_api import node_host
from kernelsecret.registration import Registration
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID
from tests.unit.webhook.handover.scene import TOKEN, Webhook, webhook
from webhook.handover.agents import Agents, Answer

POD = PodRef("payments", "api-0", UID, "api")


@dataclass
class Node:
    """A node's room, and the webhook that it meets."""

    webhook: Webhook
    room: RegistrationRoom
    registered: list[Registration] = field(default_factory=list)
    identities: list[Refused | None] = field(default_factory=list)
    trusted: str = ""

    async def publish(self, authorities: list[Authority], keys: list[SigningKey]) -> None:
        """As the leading webhook does it."""
        listed = msgspec.json.encode([key.public for key in keys]).decode()
        self.trusted = "".join(one.certificate_pem for one in authorities)
        data = {"ca.crt": self.trusted, "registration-keys.json": listed}
        await self.webhook.api.put("configmaps", TRUST_OBJECT, SYSTEM_NAMESPACE, data=data)

    async def hand_over(self) -> Answer:
        """As the webhook does it now, to the live pod's node."""
        door = self.webhook
        context = scene.webhook_context(door.authority, trusted=self.trusted)
        agents = Agents(lambda: context, port=self.room.door.address[1])
        try:
            pod = await door.issuer.live("payments", "api-0")
            signed = msgspec.json.encode(await door.issuer.issue(pod))
            return await agents.put(NODE, "127.0.0.1", UID, signed)
        finally:
            await agents.close()


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Node]:
    token = folder / "token"
    token.write_text(TOKEN)
    async with webhook() as door:
        await door.api.put_pod()
        settings = RoomSettings(NODE, "127.0.0.1", "127.0.0.1", token, port=0, webhook_port=door.port)
        registered: list[Registration] = []
        identities: list[Refused | None] = []
        events = RoomEvents(on_registered=registered.append, on_identity=identities.append)
        room = RegistrationRoom(door.client, settings, events)
        await room.start()
        try:
            yield Node(door, room, registered, identities)
        finally:
            await room.stop()


async def test_a_node_that_knows_nothing_yet_says_what_it_waits_for(tmp_path: Path) -> None:
    async with node(tmp_path) as made:
        with pytest.raises(Refused) as refused:
            await made.room.registration(POD)
        assert refused.value.code is Code.UNAVAILABLE
        with pytest.raises(Refused) as unreached:
            await made.hand_over()
        assert unreached.value.code is Code.UNAVAILABLE


async def test_with_the_published_trust_it_proves_itself_takes_what_is_handed_over_and_asks_for_the_rest(
    tmp_path: Path, log_lines: LogLines
) -> None:
    async with node(tmp_path) as made:
        await made.publish([made.webhook.authority], [made.webhook.key])
        await made.room.identity.wait()
        assert made.identities == [None]
        assert await made.hand_over() is Answer.TAKEN
        [told] = made.registered
        assert await made.room.registration(POD) == told
        made.room.forget(UID)
        asked = await made.room.registration(POD)
        assert asked.nonce != told.nonce
        assert len(made.registered) == 1  # what was asked for is not fetched ahead: the mount is waiting already
    assert "canary" not in log_lines.text
    assert "PRIVATE" not in log_lines.text


async def test_an_authority_and_a_key_are_changed_under_a_running_node_without_a_gap(tmp_path: Path) -> None:
    async with node(tmp_path) as made:
        door, old, old_key = made.webhook, made.webhook.authority, made.webhook.key
        made.room.identity._chance = lambda: 0.0  # no spread
        await made.publish([old], [old_key])
        await made.room.identity.wait()
        first = made.room.contexts.client()

        new, new_key = scene.authority(), scene.key()
        await made.publish([old, new], [old_key, new_key])
        await until(lambda: made.room.contexts.client() is not first)
        assert await made.hand_over() is Answer.TAKEN

        # From now on the webhook shows a certificate of the new authority, and signs by the new key.
        door.authority, door.key = new, new_key
        door.show(new, trusted=old.certificate_pem + new.certificate_pem)
        assert await made.hand_over() is Answer.TAKEN
        made.room.forget(UID)
        await made.room.registration(POD)

        await made.room.identity.renew()  # as it does in the time that the old authority is kept
        await made.publish([new], [new_key])
        await until(lambda: made.room.trust.keys == (new_key.public,))
        door.show(new)
        assert await made.hand_over() is Answer.TAKEN
        made.room.forget(UID)
        await made.room.registration(POD)

        door.authority = old
        with pytest.raises(Refused, match="cannot be reached"):
            await made.hand_over()


async def test_it_stops_without_leaving_anything_behind(tmp_path: Path) -> None:
    async with node(tmp_path) as made:
        await made.publish([made.webhook.authority], [made.webhook.key])
        await made.room.identity.wait()
        address = made.room.door.address
        before = asyncio.all_tasks()
        await made.room.stop()
        await made.room.stop()
        assert len(asyncio.all_tasks()) < len(before)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_a_handover_connection_that_is_open_survives_a_renewal(tmp_path: Path) -> None:
    async with node(tmp_path) as made:
        await made.publish([made.webhook.authority], [made.webhook.key])
        await made.room.identity.wait()
        context = scene.webhook_context(made.webhook.authority)
        host, port = made.room.door.address
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=node_host(NODE))
        for _ in range(2):
            writer.write(b"GET /v1/registrations/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 404 " in await reader.readuntil(b"}")
            await made.room.identity.renew()
        writer.close()
