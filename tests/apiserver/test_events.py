"""Events about pods as their owners see them, and what the agent's account may not write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.kube.event_book import EventReason
from agent.kube.events import EventWriter
from agent.model import PodRef
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.connection import from_kubeconfig
from apiclient.lease import micro_time
from kernelsecret.names import ACCOUNT_AGENT, REPORTER, SYSTEM_NAMESPACE
from tests.apiserver.harness.certificates import kubeconfig
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.nodes import agent_pod, eventually
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.parts import part
from tests.apiserver.harness.waiting import until

SPACE, NODE = "events", "events-1"
DOWN = EventReason.SOURCE_DOWN


@pytest.fixture(scope="module")
def scene(alone: Cluster) -> Iterator[Cluster]:
    """A node with a pod, and its agent's."""
    alone.node(NODE)
    alone.namespace(SPACE)
    alone.core.create_namespaced_pod(SPACE, pod("api-0", nodeName=NODE))
    agents = agent_pod(alone, NODE)
    yield alone
    alone.remove_pod(SPACE, "api-0")
    alone.remove_pod(SYSTEM_NAMESPACE, agents)
    alone.remove_node(NODE)


def ref(scene: Cluster) -> PodRef:
    return PodRef(SPACE, "api-0", scene.core.read_namespaced_pod("api-0", SPACE).metadata.uid, "default")


def seen(scene: Cluster, reason: EventReason) -> list[dict[str, Any]]:
    found = scene.kubectl.get("events.v1.events.k8s.io", "--namespace", SPACE)["items"]
    return [event for event in found if event["reason"] == reason.value]


async def test_an_event_is_what_kubectl_describe_shows_of_the_pod_and_its_count_grows(
    scene: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kube.event_book.SERIES_EVERY_S", 0.2)
    file = scene.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file="events-agent.json", pod=f"agent-on-{NODE}")
    counts: list[str] = []
    async with ApiClient(from_kubeconfig(file)) as client:
        writer = EventWriter(client, NODE, count=counts.append)
        running = asyncio.create_task(writer.run())
        try:
            note = "kubernetes:events/db as events/default: there is no Secret db"
            for _ in range(5):
                writer.tell(ref(scene), DOWN, note, warning=True)
            await eventually(
                lambda: counts.count("written") == 2, "the event and its count are written", lambda: str(counts)
            )
            writer.tell(ref(scene), EventReason.SOURCE_RECOVERED, "x" * 5000, warning=False)
            await eventually(lambda: counts.count("written") == 3, "the longest note is taken", lambda: str(counts))
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
    [event] = await asyncio.to_thread(seen, scene, DOWN)
    assert (event["note"], event["type"], event["series"]["count"]) == (note, "Warning", 5)
    assert event["regarding"]["uid"] == ref(scene).uid
    described = await asyncio.to_thread(scene.kubectl, "describe", "pod", "api-0", "--namespace", SPACE)
    assert "SecretSourceDown" in described
    assert "there is no Secret db" in described


def event(**changed: Any) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "try-", "namespace": SPACE},
        "eventTime": micro_time(datetime.now(UTC)),
        "reportingController": REPORTER,
        "reportingInstance": NODE,
        "action": "FetchSecret",
        "reason": "SecretSourceDown",
        "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": SPACE, "name": "api-0"},
        "note": "a note",
        "type": "Normal",
        **changed,
    }


def as_agent(scene: Cluster, *, bound: bool = True) -> Kubectl:
    program = part("kubectl")
    assert program is not None
    token = scene.token(SYSTEM_NAMESPACE, ACCOUNT_AGENT, pod=f"agent-on-{NODE}" if bound else "")
    path = scene.folder / f"events-{'bound' if bound else 'free'}.json"
    kubeconfig(path, scene.server.url, scene.certificates.authority, token=token, namespace=SPACE)
    return Kubectl(program, path, scene.folder)


CREATE = ("create", "--filename=-", "--dry-run=server")


def test_an_agent_writes_events_of_its_own_node_about_pods_and_no_others(scene: Cluster) -> None:
    agent = as_agent(scene)
    agent(*CREATE, given=event())
    forged = event(reportingController="kubelet")
    until(lambda: agent.run(*CREATE, given=forged).status != 0, "the policy holds, a moment after it was made")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"reportingInstance": "events-2"}, "reportingInstance"),
        ({"reportingController": "kubelet"}, "reportingController"),
        ({"regarding": {"apiVersion": "v1", "kind": "Secret", "namespace": SPACE, "name": "db"}}, "regarding"),
    ]
    for changed, field in wrong:
        assert f"{field}: an agent writes Events" in agent.refused(*CREATE, given=event(**changed))


def test_a_token_that_is_bound_to_no_node_writes_no_event(scene: Cluster) -> None:
    assert "proven by a token that is bound to it" in as_agent(scene, bound=False).refused(*CREATE, given=event())


async def test_an_agent_changes_no_event_of_another(scene: Cluster) -> None:
    others = event(reportingController="kubelet", reportingInstance="x")
    name = json.loads(scene.kubectl("create", "-ojson", "--filename=-", given=others))["metadata"]["name"]
    series = {"series": {"count": 2, "lastObservedTime": micro_time(datetime.now(UTC))}}
    # kubectl would read it first, and may not.
    file = scene.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file="events-other.json", pod=f"agent-on-{NODE}")
    async with ApiClient(from_kubeconfig(file)) as client:
        with pytest.raises(ApiError) as caught:
            await client.patch(paths.event(SPACE, name), json.dumps(series).encode())
    assert caught.value.status == 403
    assert "series" not in scene.kubectl.get("events.v1.events.k8s.io", name, "--namespace", SPACE)


def test_an_agent_reads_and_deletes_no_events(scene: Cluster) -> None:
    agent = as_agent(scene)
    for verb in ("get", "list", "delete", "update"):
        for resource in ("events", "events.events.k8s.io"):
            assert agent.run("auth", "can-i", verb, resource, "-A").out.strip() == "no", (verb, resource)
    assert agent.run("auth", "can-i", "create", "events").out.strip() == "no"
