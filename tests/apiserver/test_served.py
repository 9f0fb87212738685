"""How secrets do, from the agents' doors into the interceptor's status, as a user sees it with kubectl."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from kernelsecret.names import LABEL_ENGINE
from kernelsecret.node_api import ServedSecret
from tests.apiserver.harness.nodes import Agent, agent, eventually
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.webhook import Webhook

NAMESPACE, NODE, NAME = "served", "handed-1", "served"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def place(webhook: Webhook) -> Iterator[Webhook]:
    """The webhook, with a node and a pod on it that holds an interceptor."""
    cluster = webhook.cluster
    cluster.node(NODE, {LABEL_ENGINE: "iter", "pool": "served"}, address="127.0.0.21")
    cluster.namespace(NAMESPACE, OPTED_IN)
    cluster.kubectl.apply(interceptor(NAME, NAMESPACE))
    cluster.kubectl.within(NAMESPACE).apply(pod("one", NAME, nodeName=NODE))
    yield webhook
    cluster.remove_pod(NAMESPACE, "one")
    cluster.kubectl("delete", f"si/{NAME}", "--wait=false")
    cluster.remove_node(NODE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(place: Webhook, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Agent]:
    """The node's agent, with its certificate."""
    async with agent(place, NODE, files=tmp_path_factory.mktemp("agents")) as made:
        await eventually(lambda: made.identity, "it has a certificate", place.tails)
        yield made


def said(**counts: Any) -> ServedSecret:
    total = sum(value for value in counts.values() if isinstance(value, int))
    return ServedSecret(interceptor=NAME, secret="db", pods=total, **counts)


async def status(webhook: Webhook, reason: str) -> dict[str, Any]:
    """Wait until the condition has this reason; the whole status, with the condition's as `current`."""
    found: dict[str, Any] = {}

    async def looked() -> bool:
        nonlocal found
        found = (await asyncio.to_thread(webhook.cluster.kubectl.get, f"si/{NAME}")).get("status", {})
        conditions = {one["type"]: one for one in found.get("conditions", ())}
        found["current"] = conditions.get("SecretsCurrent", {})
        return bool(found["current"].get("reason") == reason)

    async with asyncio.timeout(60):
        while not await looked():  # noqa: ASYNC110 - kubectl has no event
            await asyncio.sleep(0.1)
    return found


async def test_a_node_without_an_agent_is_told_of(place: Webhook) -> None:
    found = await status(place, "AgentsSilent")
    assert found["current"]["status"] == "Unknown"
    assert "1 of 1 pod" in found["current"]["message"]


async def test_a_wrong_role_shows_with_the_sources_words_and_goes_when_it_is_mended(
    place: Webhook, node: Agent
) -> None:
    node.serves[:] = [said(failing=1, message="role: Vault has no role 'paymnts' at auth/kubernetes")]
    found = await status(place, "SourceFailing")
    [secret] = found["secrets"]
    assert (secret["name"], secret["pods"], secret["failing"], secret["upToDate"]) == ("db", 1, 1, 0)
    assert "no role 'paymnts'" in secret["message"]
    assert found["current"]["message"].startswith("db: 1 of 1 pod: role: Vault has no role")
    node.serves[:] = [said(behind=1)]
    assert (await status(place, "ReadersBehind"))["secrets"][0]["behind"] == 1
    node.serves[:] = [said(up_to_date=1)]
    found = await status(place, "AllCurrent")
    assert found["current"]["status"] == "True"
    assert "message" not in found["secrets"][0] or not found["secrets"][0]["message"]
