from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest

from agent.model import PodRef
from agent.registrations.asking import Registrations
from agent.registrations.book import Held, RegistrationBook
from agent.registrations.contexts import NodeContexts
from agent.registrations.webhook_door import WebhookDoor
from certs.signing import sign_registration
from kernelsecret.errors import Code, Refused
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID
from tests.unit.webhook.handover.scene import Webhook, webhook

POD = PodRef("payments", "api-0", UID, "api")


@dataclass
class Agent:
    """An agent that asks a real webhook."""

    webhook: Webhook
    book: RegistrationBook
    asking: Registrations
    asked: list[str] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


@asynccontextmanager
async def asking(node: str = NODE, *, within_s: float = 2.0) -> AsyncIterator[Agent]:
    async with webhook() as door:
        contexts = scene.node_contexts(door.authority, node)
        book = RegistrationBook(door.clock.now)
        to = WebhookDoor("127.0.0.1", door.port, timeout_s=10)
        asked: list[str] = []
        cut: list[int] = []
        made = Registrations(
            node,
            book,
            to,
            contexts,
            lambda: [door.key.public],
            door.clock.now,
            within_s=within_s,
            monotonic=door.clock.monotonic,
            chance=lambda: 0.5,
            on_asked=asked.append,
            on_cut=lambda: cut.append(1),
        )
        try:
            yield Agent(door, book, made, asked, cut)
        finally:
            await made.close()
            await to.close()


async def test_what_is_held_is_given_without_asking() -> None:
    async with asking() as agent:
        made = scene.registration(agent.webhook.clock)
        agent.book.admit(Held(made, sign_registration(agent.webhook.key, made)))
        assert await agent.asking.registration(POD) == made
        assert agent.asked == []


async def test_what_is_lacking_is_asked_for_and_then_held() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        found = await agent.asking.registration(POD)
        assert (found.pod_uid, found.node, found.interceptor) == (UID, NODE, "payments-db")
        assert await agent.asking.registration(POD) == found
        assert agent.asked == ["ok"]
        assert agent.webhook.answers == ["registration-ok"]


async def test_many_that_want_the_same_ask_once_and_one_that_leaves_does_not_disturb_the_others() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        waiting = [asyncio.create_task(agent.asking.registration(POD)) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert len({repr(one) for one in found[1:]}) == 1
        assert agent.webhook.answers == ["registration-ok"]


async def test_a_refusal_comes_in_the_webhooks_words_and_does_not_keep_from_asking_again() -> None:
    async with asking() as agent:
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                await agent.asking.registration(POD)
            assert refused.value.code is Code.NOT_FOUND
        assert agent.asked == ["NOT_FOUND", "NOT_FOUND"]
        await agent.webhook.api.put_pod()
        await agent.asking.registration(POD)


async def test_a_webhook_that_is_away_is_unavailable_and_is_left_alone_for_longer_each_time() -> None:
    async with asking() as agent:
        agent.asking._door._url = "https://127.0.0.1:1"
        rests = []
        for _ in range(8):
            with pytest.raises(Refused) as refused:
                await agent.asking.registration(POD)
            assert refused.value.code is Code.UNAVAILABLE
            with pytest.raises(Refused, match="a moment ago") as refused:
                await agent.asking.registration(POD)
            assert refused.value.fix
            rests.append(agent.asking._rests_until - agent.webhook.clock.monotonic())
            agent.webhook.clock.move(rests[-1])
        assert rests == [0.5, 1, 2, 4, 8, 15, 15, 15]


async def test_after_an_answer_the_webhook_is_asked_as_before() -> None:
    async with asking() as agent:
        away, there = "https://127.0.0.1:1", agent.asking._door._url
        await agent.webhook.api.put_pod()
        for url in (away, there):
            agent.asking._door._url = url
            agent.webhook.clock.move(1)
            await asyncio.gather(agent.asking.registration(POD), return_exceptions=True)
        agent.book.forget(UID)
        await agent.asking.registration(POD)
        assert agent.asked == ["UNAVAILABLE", "ok", "ok"]


async def test_a_webhook_that_does_not_answer_in_time_is_given_up() -> None:
    async with asking(within_s=0.05) as agent:
        agent.webhook.api.answer_delay = asyncio.Event()
        with pytest.raises(Refused, match=r"within 0\.05 s"):
            await agent.asking.registration(POD)
        agent.webhook.api.answer_delay.set()


async def test_an_answer_about_another_pod_is_not_believed() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        made = scene.registration(agent.webhook.clock, pod_uid="another")
        signed = msgspec.json.encode(sign_registration(agent.webhook.key, made))
        agent.asking._door.post = _answering(signed)  # type: ignore[method-assign]
        with pytest.raises(Refused, match="not asked for"):
            await agent.asking.registration(POD)
        assert len(agent.book) == 0


async def test_an_answer_by_a_key_that_is_not_trusted_is_not_believed() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        trusted = agent.webhook.key.public
        agent.asking._keys = lambda: [trusted]
        agent.webhook.key = scene.key()
        with pytest.raises(Refused, match="no such key"):
            await agent.asking.registration(POD)


@pytest.mark.parametrize("answer", [b"", b"{}", b"\xff", b"[" * 9_000])
async def test_an_answer_of_another_form_is_not_believed(answer: bytes) -> None:
    async with asking() as agent:
        agent.asking._door.post = _answering(answer)  # type: ignore[method-assign]
        with pytest.raises(Refused, match="something else"):
            await agent.asking.registration(POD)


async def test_a_webhook_by_another_authority_is_asked_nothing() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        agent.webhook.show(scene.authority(), trusted=agent.webhook.authority.certificate_pem)
        with pytest.raises(Refused, match="certificate"):
            await agent.asking.registration(POD)
        assert agent.webhook.answers == []


async def test_a_webhook_that_may_not_believe_the_node_leads_to_a_new_certificate() -> None:
    async with asking() as agent:
        await agent.webhook.api.put_pod()
        agent.webhook.show(agent.webhook.authority, trusted=scene.authority().certificate_pem)
        with pytest.raises(Refused) as refused:
            await agent.asking.registration(POD)
        assert refused.value.code is Code.UNAVAILABLE
        assert "may not trust" in refused.value.why
        assert agent.cut == [1]


async def test_a_webhook_that_is_only_away_does_not() -> None:
    async with asking() as agent:
        agent.asking._door._url = "https://127.0.0.1:1"
        with pytest.raises(Refused):
            await agent.asking.registration(POD)
        assert agent.cut == []


async def test_a_node_without_a_certificate_yet_says_so(log_lines: LogLines) -> None:
    async with asking() as agent:
        agent.asking._contexts = NodeContexts()
        with pytest.raises(Refused) as refused:
            await agent.asking.registration(POD)
        assert refused.value.code is Code.UNAVAILABLE
        assert refused.value.field == "node identity"


class _Answers:
    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def __call__(self, *_: object, **__: object) -> bytes:
        return self.answer


def _answering(answer: bytes) -> _Answers:
    return _Answers(answer)
