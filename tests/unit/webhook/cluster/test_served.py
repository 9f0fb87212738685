from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor_status import SecretStatus
from kernelsecret.node_api import ServedSecret
from tests.unit.apiclient.fake_server import FakeApiServer
from tests.unit.apiclient.things import until
from tests.unit.registrations.scene import NODE, agent_door, webhook_context
from tests.unit.webhook import builders
from tests.unit.webhook.builders import OPTED_IN
from tests.unit.webhook.cluster.scene import RESOURCE, put_interceptor, put_namespace, put_node, running, watched
from tests.unit.webhook.cluster.test_usage import LATER, NOW, injected_pod, with_status
from webhook.cluster.asking import Asking
from webhook.cluster.served import Summary, report_of, summed
from webhook.cluster.status import StatusController
from webhook.cluster.usage import CURRENT, Usage, current, desired_status
from webhook.handover.agents import Agents

INTERCEPTOR = builders.interceptor()
NAME = INTERCEPTOR.metadata.name
[SECRET] = [one.name for one in INTERCEPTOR.spec.secrets]


def said(**counts: Any) -> ServedSecret:
    total = sum(value for name, value in counts.items() if name != "message")
    return ServedSecret(interceptor=NAME, secret=SECRET, pods=total, **counts)


def only(summary: Summary | None) -> SecretStatus:
    assert summary is not None
    [found] = summary.secrets
    return found


# The sums


def test_what_agents_say_is_summed_over_nodes() -> None:
    reports = {
        "a": report_of([said(up_to_date=2, behind=1)]),
        "b": report_of([said(failing=1, message="denied: the policy forbids it")]),
        "c": report_of([ServedSecret(interceptor="other", secret=SECRET, pods=5, failing=5, message="not mine")]),
    }
    found = summed(INTERCEPTOR, {"a": 3, "b": 1}, reports)
    message = "denied: the policy forbids it (node b)"
    assert only(found) == SecretStatus(name=SECRET, pods=4, up_to_date=2, behind=1, failing=1, message=message)
    assert found is not None
    assert (found.silent, found.unserved) == (0, 0)


def test_an_agent_is_believed_for_no_more_pods_than_its_node_has() -> None:
    reports = {"a": report_of([said(up_to_date=10**9, behind=-5, failing=7, message="x\n\u202e" * 1000)])}
    found = only(summed(INTERCEPTOR, {"a": 2}, reports))
    assert (found.pods, found.failing, found.behind, found.up_to_date) == (2, 2, 0, 0)
    assert found.message.isascii()
    assert len(found.message) < 1000


def test_a_node_that_was_not_asked_yet_leaves_it_open() -> None:
    assert summed(INTERCEPTOR, {"a": 1, "b": 1}, {"a": report_of([said(up_to_date=1)])}) is None


def test_silent_agents_and_pods_without_a_volume_are_counted() -> None:
    found = summed(INTERCEPTOR, {"a": 3, "b": 2, "": 1}, {"a": report_of([said(up_to_date=1)]), "b": None})
    assert found is not None
    assert (found.silent, found.unserved) == (2, 3)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (Summary((SecretStatus(name="db", pods=3, up_to_date=3),)), ("True", "AllCurrent", "3 pods")),
        (Summary((SecretStatus(name="db", pods=3, up_to_date=2, behind=1),)), ("False", "ReadersBehind", "db: 1 of 3")),
        (
            Summary((SecretStatus(name="db", pods=3, behind=1, failing=2, message="no such role"),), silent=1),
            ("False", "SourceFailing", "db: 2 of 3 pods: no such role"),
        ),
        (Summary((SecretStatus(name="db", pods=2, up_to_date=2),), silent=1), ("Unknown", "AgentsSilent", "1 of 3")),
        (Summary((SecretStatus(name="db", pods=2, up_to_date=2),), unserved=1), ("Unknown", "NotServedYet", "1 of 3")),
    ],
)
def test_the_condition_says_how_it_stands_with_counts(summary: Summary, expected: tuple[str, str, str]) -> None:
    found = current(3, summary)
    assert found is not None
    assert (found.type, found.status, found.reason) == ("SecretsCurrent", *expected[:2])
    assert expected[2] in found.message


# The asking


class Agent:
    """What the agents say, by node; a node that is not there does not answer."""

    def __init__(self) -> None:
        self.says: dict[str, list[ServedSecret]] = {}
        self.asked: list[str] = []
        self.news = 0

    async def ask(self, node: str, address: str) -> list[ServedSecret]:
        self.asked.append(f"{node} at {address}")
        if node not in self.says:
            raise Refused(Code.UNAVAILABLE, f"agent of node {node}", "cannot be reached")
        return list(self.says[node])

    def heard(self) -> None:
        self.news += 1


async def test_each_node_with_pods_is_asked_again_and_again_and_others_are_forgotten() -> None:
    agent, addresses = Agent(), dict[str, str | None]()
    asking = Asking(agent.ask, lambda node: addresses.get(node), agent.heard, every_s=0.001, soon_s=0.0)
    addresses["a"], agent.says["a"] = "10.0.0.1", [said(up_to_date=1)]
    async with running(asking.run()):
        asking.changed("a")
        await until(lambda: len(agent.asked) >= 3)
        assert set(agent.asked) == {"a at 10.0.0.1"}
        assert agent.news == 1
        agent.says["a"] = [said(behind=1)]
        await until(lambda: agent.news == 2)
        del agent.says["a"]
        await until(lambda: agent.news == 3)
        assert asking.reports == {"a": None}
        addresses["a"] = None
        await until(lambda: not asking.reports)
        count = len(agent.asked)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(agent.asked) == count


async def test_a_node_without_an_address_does_not_answer() -> None:
    agent = Agent()
    asking = Asking(agent.ask, lambda node: "", agent.heard, soon_s=0.0)
    async with running(asking.run()):
        asking.changed("a")
        await until(lambda: asking.reports == {"a": None})
        assert agent.asked == []


async def test_a_changed_pod_brings_the_next_look_forward() -> None:
    agent = Agent()
    agent.says["a"] = []
    asking = Asking(agent.ask, lambda node: "10.0.0.1", agent.heard, every_s=3600.0, soon_s=0.0)
    async with running(asking.run()):
        for count in (1, 2, 3):
            asking.changed("a")
            await until(lambda count=count: len(agent.asked) == count)  # type: ignore[misc]


async def test_a_real_agent_answers_the_webhook_over_mutual_tls() -> None:
    async with agent_door() as door:
        door.served.append(said(up_to_date=1))
        agents = Agents(lambda: webhook_context(door.issuer), port=door.door.address[1])
        try:
            assert await agents.served(NODE, "127.0.0.1") == (said(up_to_date=1),)
            with pytest.raises(Refused) as refused:
                await agents.served("node-2", "127.0.0.1")
            assert refused.value.code is Code.UNAVAILABLE
            stranger = Agents(lambda: webhook_context(door.issuer, host="node-2.nodes.kernelsecret.io"))
            stranger._port = door.door.address[1]
            with pytest.raises(Refused) as refused:
                await stranger.served(NODE, "127.0.0.1")
            assert refused.value.code is Code.PERMISSION_DENIED
            await stranger.close()
        finally:
            await agents.close()


# The status


@asynccontextmanager
async def leading(agent: Agent) -> AsyncIterator[FakeApiServer]:
    fake = FakeApiServer()
    await put_node(fake, **{"kernelsecret.io/engine": "iter"})
    await put_namespace(fake, **OPTED_IN)
    await put_interceptor(fake)
    async with watched(fake) as (view, client):
        controller = StatusController(client, view, ask=agent.ask, quiet_s=0.001)
        controller.asking._every_s, controller.asking._soon_s = 0.002, 0.0
        async with running(controller.lead()):
            yield fake


def status(fake: FakeApiServer) -> dict[str, Any]:
    found: dict[str, Any] = fake.objects[RESOURCE, "", NAME].get("status", {})
    return found


def reason(fake: FakeApiServer) -> str:
    found: dict[str, str] = {one["type"]: one["reason"] for one in status(fake).get("conditions", [])}
    return found.get("SecretsCurrent", "")


async def put_pod(fake: FakeApiServer, name: str = "api-0") -> None:
    made = injected_pod(spec__nodeName="node-1")
    await fake.put("pods", name, "payments", **{**made, "metadata": {**made["metadata"], "name": name}})


async def test_a_wrong_role_shows_at_the_interceptor_and_goes_when_it_is_mended() -> None:
    agent = Agent()
    async with leading(agent) as fake:
        await until(lambda: reason(fake) == "NoPods")
        await put_pod(fake)
        await until(lambda: reason(fake) == "AgentsSilent")
        agent.says["node-1"] = [said(failing=1, message="role: Vault knows no role 'wrong'")]
        await until(lambda: reason(fake) == "SourceFailing")
        [secret] = status(fake)["secrets"]
        assert secret["failing"] == 1
        assert secret["message"] == "role: Vault knows no role 'wrong' (node node-1)"
        agent.says["node-1"] = [said(up_to_date=1)]
        await until(lambda: reason(fake) == "AllCurrent")
        assert agent.asked[0] == "node-1 at 10.0.0.1"


async def test_nothing_is_written_while_agents_say_the_same() -> None:
    agent = Agent()
    agent.says["node-1"] = [said(up_to_date=1)]
    async with leading(agent) as fake:
        await put_pod(fake)
        await until(lambda: reason(fake) == "AllCurrent")
        await looked_at(agent, 10)  # the watch brings what was written only after a moment
        before = fake.version
        await looked_at(agent, 10)
        assert fake.version == before


async def looked_at(agent: Agent, times: int) -> None:
    asked = len(agent.asked)
    await until(lambda: len(agent.asked) > asked + times)


def test_what_was_said_stays_until_every_agent_was_asked() -> None:
    known = Summary((SecretStatus(name=SECRET, pods=1, up_to_date=1),))
    first = desired_status(INTERCEPTOR, Usage(1, 1, 1), {}, NOW, known)
    again = desired_status(with_status(INTERCEPTOR, first), Usage(1, 1, 1), {}, LATER)
    assert again == first
    begun = desired_status(INTERCEPTOR, Usage(1, 1, 1), {}, NOW)
    assert [one.reason for one in begun.conditions if one.type == CURRENT] == ["NotAsked"]


def test_the_words_for_the_message_are_short() -> None:
    many = Summary(tuple(SecretStatus(name=f"s{one}", pods=1, failing=1, message="m" * 300) for one in range(40)))
    found = current(1, many)
    assert found is not None
    assert len(found.message) <= 1024
