from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from agent.registrations.contexts import NodeContexts
from kernelsecret.errors import Refused
from kernelsecret.node_api import node_host
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID, AgentDoor, agent_door
from tests.unit.webhook.handover.scene import Webhook, standing, view
from webhook.handover.agents import BRIEF_REST_S, REST_S, Agents, usable_address
from webhook.handover.queue import HintQueue
from webhook.handover.sender import BINDING_S, Handover, Outcome
from webhook.hints import Hint
from webhook.policy.nodes import Node

HINT = Hint("payments", "api-0", UID, NODE)


@dataclass
class Sending:
    """A webhook that hands over to one agent, both real but for the clock."""

    webhook: Webhook
    agent: AgentDoor
    handover: Handover
    outcomes: list[Outcome]

    async def send(self, hint: Hint = HINT) -> Outcome:
        count = len(self.outcomes)
        assert self.handover.offer(hint)
        await until(lambda: len(self.outcomes) > count)
        return self.outcomes[-1]


@asynccontextmanager
async def sending(address: str = "127.0.0.1", **given: Any) -> AsyncIterator[Sending]:
    outcomes: list[Outcome] = []
    async with standing(address=address) as webhook, agent_door() as agent:
        webhook.authority, webhook.key = agent.issuer, agent.keys[0]
        agents = Agents(
            lambda: scene.webhook_context(webhook.authority, trusted=agent.issuer),
            port=agent.door.address[1],
            monotonic=webhook.clock.monotonic,
            sleep=webhook.clock.sleep,
        )
        handover = Handover(
            webhook.issuer,
            agents,
            webhook.view.nodes,
            on_outcome=lambda outcome, _: outcomes.append(outcome),
            monotonic=webhook.clock.monotonic,
            sleep=webhook.clock.sleep,
            **given,
        )
        running = asyncio.create_task(handover.run())
        try:
            yield Sending(webhook, agent, handover, outcomes)
        finally:
            await handover.close(0)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def test_a_bound_pod_is_registered_at_the_agent_of_its_node() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        assert await sent.send() is Outcome.DELIVERED
        [found] = sent.agent.registered
        assert (found.pod_uid, found.name, found.interceptor, found.node) == (UID, "api-0", "payments-db", NODE)


async def test_a_pod_that_is_not_bound_yet_is_waited_for() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod(spec__nodeName=None)
        assert sent.handover.offer(HINT)
        await until(lambda: len(sent.webhook.api.requests) == 3)
        assert sent.outcomes == []
        await sent.webhook.api.put_pod()
        await until(lambda: bool(sent.outcomes))
        assert sent.outcomes == [Outcome.DELIVERED]


async def test_a_pod_that_is_never_bound_is_given_up_in_time() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod(spec__nodeName=None)
        assert await sent.send() is Outcome.NOT_BOUND
        assert sum(sent.webhook.clock.slept) < BINDING_S + 1
        assert len(sent.webhook.api.requests) < 15


@pytest.mark.parametrize(
    ("hint", "changed", "outcome"),
    [
        (Hint("payments", "gone", None, NODE), {}, Outcome.GONE),
        (Hint("payments", "../../secrets/x", None, NODE), {}, Outcome.GONE),
        (Hint("payments", "api-0", "another", NODE), {}, Outcome.GONE),
        (HINT, {"metadata__labels": {"app": "api"}}, Outcome.NOT_OURS),
        (HINT, {"metadata__deletionTimestamp": "2026-01-01T00:00:00Z"}, Outcome.NOT_GIVEN),
        (
            HINT,
            {"metadata__labels": {"app": "other", "kernelsecret.io/injected": "true"}},
            Outcome.NOT_GIVEN,
        ),
        (HINT, {"spec__nodeName": "node-9"}, Outcome.UNREACHABLE),
    ],
)
async def test_a_hint_that_the_cluster_does_not_confirm_comes_to_nothing(
    hint: Hint, changed: dict[str, Any], outcome: Outcome
) -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod(**changed)
        assert await sent.send(hint) is outcome
        assert sent.agent.registered == []


async def test_the_node_is_the_live_pods_whatever_the_hint_says() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        assert await sent.send(HINT._replace(node="evil.example", uid=None)) is Outcome.DELIVERED


async def test_a_namespace_that_opted_in_a_moment_ago_is_read_anew() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.webhook.known = view()
        assert isinstance(sent.webhook.view.namespaces, dict)
        sent.webhook.view.namespaces.clear()
        assert await sent.send() is Outcome.DELIVERED
        assert sent.webhook.refreshed == [("payments", ["payments-db"])]


async def test_a_registration_that_the_agent_has_had_counts_as_known() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.webhook.issuer._nonce = lambda: "a" * 32
        assert await sent.send() is Outcome.DELIVERED
        assert await sent.send() is Outcome.KNOWN


async def test_an_agent_of_another_node_gets_nothing() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.agent.contexts.identify(*scene.node_pair(sent.agent.issuer, "node-2"))
        assert await sent.send() is Outcome.UNREACHABLE
        assert sent.agent.registered == []


async def test_an_agent_by_another_authority_gets_nothing() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.agent.contexts.identify(*scene.node_pair(scene.authority()))
        assert await sent.send() is Outcome.UNREACHABLE


async def test_a_webhook_that_the_agent_does_not_trust_is_told_so() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.webhook.authority = scene.authority()
        assert await sent.send() is Outcome.UNREACHABLE
        assert sent.agent.registered == []


async def test_a_registration_that_the_agent_refuses_is_counted_as_refused(log_lines: LogLines) -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.webhook.key = scene.key()
        assert await sent.send() is Outcome.REFUSED
    assert "no such key is trusted" in log_lines.text


async def test_a_node_that_cannot_be_reached_is_left_alone_for_a_while_and_then_tried_again() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.agent.listener._context = NodeContexts().server  # every connection ends at once
        assert await sent.send() is Outcome.UNREACHABLE
        before = len(sent.webhook.clock.slept)
        sent.agent.listener._context = sent.agent.contexts.server
        assert await sent.send() is Outcome.UNREACHABLE
        assert len(sent.webhook.clock.slept) == before + 1  # the look at the pod, and no attempt
        sent.webhook.clock.move(BRIEF_REST_S)
        assert await sent.send() is Outcome.DELIVERED


async def test_a_certificate_that_is_not_good_yet_is_tried_again_soon() -> None:
    """Regression: for ten seconds after its certificate had changed, each pod of the node had to be asked for."""
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.agent.contexts.identify(*scene.node_pair(scene.authority()))
        assert await sent.send() is Outcome.UNREACHABLE
        sent.agent.contexts.identify(*scene.node_pair(sent.agent.issuer))
        assert await sent.send() is Outcome.UNREACHABLE
        sent.webhook.clock.move(BRIEF_REST_S)
        assert await sent.send() is Outcome.DELIVERED


async def test_a_node_that_does_not_answer_at_all_is_left_alone_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.handover.agents.ATTEMPT_S", 0.05)
    silent: list[asyncio.StreamWriter] = []
    async with sending(address="127.0.0.2") as sent:
        port = sent.agent.door.address[1]
        server = await asyncio.start_server(lambda _, writer: silent.append(writer), "127.0.0.2", port)
        async with server:
            await sent.webhook.api.put_pod()
            assert await sent.send() is Outcome.UNREACHABLE
            assert len(silent) == 1
            sent.webhook.clock.move(BRIEF_REST_S)
            assert await sent.send() is Outcome.UNREACHABLE
            assert len(silent) == 1, "it was left alone"
            sent.webhook.clock.move(REST_S)
            assert await sent.send() is Outcome.UNREACHABLE
            assert len(silent) == 2, "it was tried again"
            for writer in silent:
                writer.close()


async def test_a_connection_that_breaks_once_is_tried_again() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.agent.listener._context = Broken(sent.agent.contexts, times=2).server
        assert await sent.send() is Outcome.DELIVERED


class Broken(NodeContexts):
    """Has no certificate the first times."""

    def __init__(self, whole: NodeContexts, times: int) -> None:
        super().__init__()
        self._whole, self._times = whole, times

    def server(self) -> Any:
        self._times -= 1
        return None if self._times >= 0 else self._whole.server()


async def test_an_api_server_that_does_not_answer_ends_the_hint_and_not_the_worker() -> None:
    async with sending(within_s=0.05, workers=1) as sent:
        await sent.webhook.api.put_pod()
        sent.webhook.api.answer_delay = asyncio.Event()
        assert await sent.send() is Outcome.FAILED
        sent.webhook.api.answer_delay.set()
        sent.webhook.api.answer_delay = None
        sent.handover._within_s = 5
        assert await sent.send() is Outcome.DELIVERED


async def test_what_does_not_fit_is_dropped_at_once_and_counted() -> None:
    async with sending(limit=2, workers=1) as sent:
        sent.webhook.api.answer_delay = asyncio.Event()
        hints = [HINT._replace(name=f"pod-{number}") for number in range(4)]
        assert sent.handover.offer(hints[0])
        await until(lambda: sent.handover.waiting == 0)
        assert [sent.handover.offer(hint) for hint in hints[1:]] == [True, True, False]
        assert sent.outcomes == [Outcome.DROPPED]
        sent.webhook.api.answer_delay.set()


async def test_at_the_end_what_waits_is_still_handed_over_and_nothing_new_is_taken() -> None:
    async with sending() as sent:
        await sent.webhook.api.put_pod()
        sent.handover.offer(HINT)
        await sent.handover.close(5)
        assert sent.outcomes == [Outcome.DELIVERED]
        assert not sent.handover.offer(HINT)
        assert sent.outcomes[-1] is Outcome.DROPPED


async def test_the_end_does_not_wait_for_what_takes_too_long() -> None:
    async with sending(workers=1) as sent:
        sent.webhook.api.answer_delay = asyncio.Event()
        sent.handover.offer(HINT)
        sent.handover.offer(HINT._replace(name="api-1"))
        await until(lambda: sent.handover.waiting == 1)
        await sent.handover.close(0.01)
        assert Outcome.DROPPED in sent.outcomes


async def test_an_end_without_anything_under_way_is_at_once() -> None:
    async with sending() as sent:
        await asyncio.wait_for(sent.handover.close(60), 1)


@pytest.mark.parametrize("address", ["", "localhost", "evil.example", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::"])
async def test_no_connection_goes_to_what_is_not_the_address_of_one_node(address: str) -> None:
    async with sending(address=address) as sent:
        await sent.webhook.api.put_pod()
        assert await sent.send() is Outcome.UNREACHABLE
        assert sent.agent.registered == []


@pytest.mark.parametrize(("text", "shown"), [("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")])
def test_addresses_are_written_as_urls_have_them(text: str, shown: str) -> None:
    assert usable_address(text) == shown


async def test_of_one_pod_only_the_newest_hint_waits() -> None:
    queue = HintQueue(2)
    assert queue.offer(HINT)
    assert queue.offer(HINT._replace(name="api-1"))
    assert queue.offer(HINT._replace(uid="newer"))
    assert not queue.offer(HINT._replace(name="api-2"))
    assert (await queue.take()).uid == "newer"
    assert len(queue) == 1


async def test_a_slow_node_does_not_hold_up_the_others() -> None:
    async with sending(workers=2) as sent:
        sent.webhook.view.nodes.put(Node(name="node-2", address="127.0.0.2"))
        await sent.webhook.api.put_pod()
        for number in range(8):
            name = f"far-{number}"
            meta = {"name": name, "namespace": "payments", "uid": name}
            await sent.webhook.api.put_pod(metadata=_injected(meta), spec__nodeName="node-2")
            sent.handover.offer(HINT._replace(name=name, uid=name))
        sent.handover.offer(HINT)
        await until(lambda: len(sent.outcomes) == 9)
        assert sent.outcomes.count(Outcome.DELIVERED) == 1
        assert sent.outcomes.count(Outcome.UNREACHABLE) == 8


def _injected(meta: dict[str, Any]) -> dict[str, Any]:
    labels = {"app": "api", "kernelsecret.io/injected": "true"}
    annotations = {"kernelsecret.io/inject": "true", "kernelsecret.io/interceptor": "payments-db"}
    return meta | {"labels": labels, "annotations": annotations}


def test_an_error_of_the_way_names_the_node_and_the_remedy() -> None:
    with pytest.raises(Refused) as refused:
        usable_address("http://169.254.169.254/")
    assert refused.value.field == "status.addresses[InternalIP]"
    assert node_host(NODE) == "node-1.nodes.kernelsecret.io"
