"""The way of a registration: from a binding to the agent of the pod's node, and what an agent gets that asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from kernelsecret.names import LABEL_ENGINE
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.nodes import NODES, Agent, agent, agent_pod, eventually
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "handover"
# The agents live through all tests: a node is given a few certificates only, and then one a minute.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def handing(webhook: Webhook) -> Iterator[Webhook]:
    """The webhook, with the nodes of NODES."""
    cluster = webhook.cluster
    for name, address in NODES.items():
        cluster.node(name, {LABEL_ENGINE: "iter", "pool": "handed"}, address=address)
    cluster.kubectl.apply(interceptor("handed", NAMESPACE))
    cluster.namespace(NAMESPACE, OPTED_IN)
    yield webhook
    for name in NODES:
        cluster.remove_node(name)


@pytest.fixture
def kubectl(handing: Webhook) -> Kubectl:
    """kubectl in the namespace."""
    return handing.cluster.kubectl.within(NAMESPACE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agents(handing: Webhook, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Agent]]:
    """An agent on each of both nodes, with its certificate."""
    webhook = handing
    tmp_path = tmp_path_factory.mktemp("agents")
    one, two = list(NODES)[:2]
    async with (
        agent(webhook, one, files=tmp_path) as first,
        agent(webhook, two, files=tmp_path) as second,
    ):
        for each in (first, second):
            await eventually(lambda each=each: each.identity, "it has a certificate", webhook.tails)  # type: ignore[misc]
            assert each.identity[0] is None
        yield {one: first, two: second}


async def create(webhook: Webhook, thing: dict[str, Any]) -> PodRef:
    """Create a pod; who it is."""
    kept = await asyncio.to_thread(webhook.cluster.core.create_namespaced_pod, NAMESPACE, thing)
    return PodRef(NAMESPACE, kept.metadata.name, kept.metadata.uid, "default")


def on(node: str) -> dict[str, Any]:
    return {"nodeSelector": {"kubernetes.io/hostname": node}}


async def test_what_the_scheduler_binds_is_at_the_agent_of_its_node_before_anybody_asks(
    handing: Webhook, agents: dict[str, Agent]
) -> None:
    webhook = handing
    made = await create(webhook, pod("bound", "handed", **on("handed-1")))
    mine, other = agents["handed-1"], agents["handed-2"]
    await eventually(lambda: mine.has("bound"), "the registration is handed over", webhook.tails)
    found = mine.has("bound")
    assert found is not None
    assert (found.pod_uid, found.namespace, found.name) == (made.uid, NAMESPACE, "bound")
    assert (found.service_account, found.interceptor, found.node) == ("default", "handed", "handed-1")
    assert other.has("bound") is None
    assert mine.refused == []
    # And it need not be asked for any more.
    assert (await mine.room.registration(made)).nonce == found.nonce
    assert mine.asked == []


async def test_a_binding_through_the_legacy_endpoint_is_handed_over_too(
    handing: Webhook, agents: dict[str, Agent], kubectl: Kubectl
) -> None:
    webhook = handing
    await create(webhook, pod("legacy", "handed", schedulerName="nobody"))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "legacy"},
        "target": {"kind": "Node", "name": "handed-2"},
    }
    path = f"--raw=/api/v1/namespaces/{NAMESPACE}/bindings"
    await asyncio.to_thread(kubectl, "create", path, "-f-", given=binding)
    await eventually(lambda: agents["handed-2"].has("legacy"), "the registration is handed over", webhook.tails)


async def test_a_pod_that_names_its_node_has_no_binding_so_the_agent_asks_and_only_its_own_is_answered(
    handing: Webhook, agents: dict[str, Agent]
) -> None:
    made = await create(handing, pod("named", "handed", nodeName="handed-1"))
    found = await agents["handed-1"].room.registration(made)
    assert (found.pod_uid, found.node, found.interceptor) == (made.uid, "handed-1", "handed")
    with pytest.raises(Refused) as refused:
        await agents["handed-2"].room.registration(made)
    assert refused.value.code in (Code.NOT_FOUND, Code.PERMISSION_DENIED)


async def test_an_agent_that_was_away_at_the_binding_gets_it_when_it_asks(handing: Webhook, tmp_path: Path) -> None:
    webhook = handing
    made = await create(webhook, pod("early", "handed", **on("late-1")))
    assert await asyncio.to_thread(webhook.cluster.bound, NAMESPACE, "early") == "late-1"
    async with agent(webhook, "late-1", files=tmp_path) as late:
        await asyncio.wait_for(late.room.identity.wait(), 30)
        assert (await late.room.registration(made)).pod_uid == made.uid


async def test_a_pod_that_was_not_injected_gets_no_registration_whoever_asks(
    handing: Webhook, agents: dict[str, Agent]
) -> None:
    made = await create(handing, pod("plain", nodeName="handed-1"))
    with pytest.raises(Refused) as refused:
        await agents["handed-1"].room.registration(made)
    assert refused.value.code is not Code.UNAVAILABLE
    assert agents["handed-1"].has("plain") is None


async def test_a_pod_that_was_made_anew_under_its_name_is_told_apart(
    handing: Webhook, agents: dict[str, Agent]
) -> None:
    webhook = handing
    first = await create(webhook, pod("again", "handed", nodeName="handed-1"))
    await asyncio.to_thread(webhook.cluster.remove_pod, NAMESPACE, "again")
    second = await create(webhook, pod("again", "handed", nodeName="handed-1"))
    with pytest.raises(Refused):
        await agents["handed-1"].room.registration(first)
    assert (await agents["handed-1"].room.registration(second)).pod_uid == second.uid


async def test_a_token_of_another_node_gets_no_certificate(handing: Webhook, tmp_path: Path) -> None:
    webhook = handing
    await asyncio.to_thread(agent_pod, webhook.cluster, "iter-1")
    try:
        async with agent(webhook, "late-1", token_of="agent-on-iter-1", files=tmp_path) as thief:
            await eventually(lambda: thief.identity, "it was answered", webhook.tails)
            [said] = thief.identity[:1]
            assert said is not None
            assert said.code is Code.PERMISSION_DENIED
            assert "iter-1" in said.why
    finally:
        await asyncio.to_thread(webhook.cluster.remove_pod, "kernelsecret-system", "agent-on-iter-1")


async def test_bindings_are_never_kept_waiting_by_an_agent_that_does_not_answer(handing: Webhook) -> None:
    """No agent is there on that node: bindings are answered at once, and the hand-overs counted as lost."""
    webhook = handing
    for number in range(3):
        await create(webhook, pod(f"unheard-{number}", "handed", **on("late-1")))
        assert await asyncio.to_thread(webhook.cluster.bound, NAMESPACE, f"unheard-{number}") == "late-1"
    slow = webhook.metric("kernelsecret_webhook_review_duration_seconds_count", door="bind") - webhook.metric(
        "kernelsecret_webhook_review_duration_seconds_bucket", door="bind", le="0.05"
    )
    assert slow == 0

    def lost() -> float:
        name = "kernelsecret_webhook_handovers_total"
        return webhook.metric(name) - webhook.metric(name, outcome="delivered")

    await eventually(lambda: lost() >= 3, "the hand-overs are counted as lost", webhook.tails)
