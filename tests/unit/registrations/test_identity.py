from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.registrations.contexts import NodeContexts
from agent.registrations.identity import LONGEST_RETRY_S, SPREAD_S, NodeIdentity
from agent.registrations.webhook_door import WebhookDoor
from kernelsecret.errors import Code, Refused
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, Clock
from tests.unit.webhook.handover.scene import TOKEN, Webhook, authenticated, webhook


class Gate:
    """Time passes when the test opens the gate."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waits: list[float] = []
        self.waiting = False
        self._open = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.waiting = True
        await self._open.acquire()
        self.clock.move(seconds)

    async def one_waits(self) -> None:
        await until(lambda: self.waiting)

    def pass_one(self) -> None:
        self.waiting = False
        self._open.release()


@dataclass
class Agent:
    """An agent's identity at a real webhook's door."""

    webhook: Webhook
    contexts: NodeContexts
    identity: NodeIdentity
    gate: Gate
    token_file: Path
    failed: list[Refused] = field(default_factory=list)
    renewed: list[datetime] = field(default_factory=list)


@asynccontextmanager
async def identified(folder: Path, *, trusted: str = "") -> AsyncIterator[Agent]:
    async with webhook() as door:
        token_file = folder / "token"
        token_file.write_text(TOKEN + "\n")
        contexts = NodeContexts()
        contexts.trust(trusted or door.authority.certificate_pem)
        gate = Gate(door.clock)
        to = WebhookDoor("127.0.0.1", door.port, timeout_s=5)
        failed: list[Refused] = []
        renewed: list[datetime] = []
        identity = NodeIdentity(
            NODE,
            token_file,
            to,
            contexts,
            door.clock.now,
            sleep=gate.sleep,
            chance=lambda: 1.0,
            on_failed=failed.append,
            on_renewed=renewed.append,
        )
        try:
            yield Agent(door, contexts, identity, gate, token_file, failed, renewed)
        finally:
            await to.close()


@asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[None]:
    task = asyncio.create_task(agent.identity.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_node_gets_its_certificate_with_its_token_and_shows_it(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        with pytest.raises(Refused):
            agent.contexts.client()
        await agent.identity.renew()
        assert agent.contexts.is_identified
        assert agent.contexts.server() is not None
        assert agent.identity.not_after is not None
        assert agent.renewed == [agent.identity.not_after]


async def test_no_private_key_touches_the_disk_or_leaves_the_process(tmp_path: Path, log_lines: LogLines) -> None:
    async with identified(tmp_path) as agent:
        await agent.identity.renew()
        assert [path.name for path in tmp_path.iterdir()] == ["token"]
        assert all("PRIVATE" not in str(review) for review in agent.webhook.api.reviews)
    assert "PRIVATE" not in log_lines.text
    assert "canary" not in log_lines.text


async def test_it_is_renewed_after_two_thirds_of_its_life_with_a_new_key(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent, running(agent):
        agent.identity.trusts_change()
        await until(lambda: len(agent.renewed) == 1)
        began, first = agent.webhook.clock.now(), agent.contexts.client()
        while len(agent.renewed) == 1:
            await agent.gate.one_waits()
            agent.gate.pass_one()
            await until(lambda: agent.gate.waiting or len(agent.renewed) > 1)
        hours = (agent.webhook.clock.now() - began).total_seconds() / 3600
        assert 15.9 < hours < 16.1
        assert agent.contexts.client() is not first


async def test_a_webhook_that_is_away_is_tried_again_later_and_later_and_the_certificate_stays(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        await agent.identity.renew()
        kept = agent.contexts.client()
        agent.webhook.api.tokens.clear()
        async with running(agent):
            agent.identity.trusts_change()
            for _ in range(9):
                await agent.gate.one_waits()
                agent.gate.pass_one()
        assert agent.gate.waits[:4] == [1.5, 3.0, 6.0, 12.0]
        assert max(agent.gate.waits) == 1.5 * LONGEST_RETRY_S
        assert agent.contexts.client() is kept
        assert {refused.code for refused in agent.failed} == {Code.PERMISSION_DENIED}


async def test_a_certificate_that_has_ended_by_the_nodes_own_clock_is_not_taken(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        agent.identity._now = lambda: agent.webhook.clock.now() + timedelta(days=2)
        with pytest.raises(Refused, match="clocks"):
            await agent.identity.renew()
        assert not agent.contexts.is_identified


async def test_it_waits_for_trust_and_goes_at_once_when_there_is_some(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent, running(agent):
        for _ in range(10):
            await asyncio.sleep(0)
        assert (agent.failed, agent.gate.waits) == ([], [])
        agent.identity.trusts_change()
        await asyncio.wait_for(agent.identity.wait(), 5)


async def test_changed_authorities_lead_to_a_new_certificate_within_the_spread(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent, running(agent):
        agent.identity.trusts_change()
        await until(lambda: len(agent.gate.waits) == 1)
        agent.identity.trusts_change()
        await until(lambda: len(agent.gate.waits) == 2)
        assert agent.gate.waits[-1] == SPREAD_S
        agent.gate.pass_one()
        await until(lambda: len(agent.renewed) == 2)


async def test_a_doubt_leads_to_a_new_certificate_only_where_the_present_one_is_not_new(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent, running(agent):
        agent.identity.trusts_change()
        await until(lambda: len(agent.gate.waits) == 1)
        agent.identity.renew_soon()
        agent.gate.pass_one()  # five minutes
        await until(lambda: len(agent.gate.waits) == 2)
        agent.gate.pass_one()
        await until(lambda: len(agent.gate.waits) == 3)
        assert len(agent.renewed) == 1
        agent.identity.renew_soon()
        await until(lambda: len(agent.gate.waits) == 4)
        agent.gate.pass_one()
        await until(lambda: len(agent.renewed) == 2)


async def test_the_token_is_read_anew_each_time(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        await agent.identity.renew()
        agent.webhook.api.tokens = {"canary-next": authenticated()}
        with pytest.raises(Refused):
            await agent.identity.renew()
        agent.token_file.write_text("canary-next")
        await agent.identity.renew()
        assert len(agent.renewed) == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"canary\xff", b"x" * 20_000, b"a\r\nHost: b"])
async def test_a_token_file_that_holds_no_token_is_named_without_a_word_of_it(tmp_path: Path, content: bytes) -> None:
    async with identified(tmp_path) as agent:
        agent.token_file.write_bytes(content)
        with pytest.raises(Refused) as refused:
            await agent.identity.renew()
        assert refused.value.field == str(agent.token_file)
        assert "canary" not in str(refused.value)


async def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        agent.token_file.unlink()
        with pytest.raises(Refused, match="FileNotFoundError"):
            await agent.identity.renew()


async def test_the_token_is_not_sent_to_a_webhook_that_is_not_trusted(tmp_path: Path) -> None:
    async with identified(tmp_path, trusted=scene.authority().certificate_pem) as agent:
        with pytest.raises(Refused) as refused:
            await agent.identity.renew()
        assert refused.value.code is Code.UNAVAILABLE
        assert "certificate" in refused.value.why
        assert agent.webhook.api.reviews == []


async def test_the_token_is_not_sent_to_a_node_that_poses_as_the_webhook(tmp_path: Path) -> None:
    async with identified(tmp_path) as agent:
        agent.webhook.tls.use(scene.server_context(agent.webhook.authority, "node-2.nodes.kernelsecret.io"))
        with pytest.raises(Refused) as refused:
            await agent.identity.renew()
        assert "certificate" in refused.value.why
        assert agent.webhook.api.reviews == []
