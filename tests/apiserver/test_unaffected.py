"""The annotation that names programs which the shim does not reach: the pod's own agent writes it, and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from agent.kube.live import ApiCluster
from agent.model import PodRef
from agent.preload.annotation import PodAnnotation
from agent.preload.judging import Program, Why, told
from apiclient.client import ApiClient, ApiError
from apiclient.connection import from_kubeconfig
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ACCOUNT_AGENT, ANNOTATION_CHOSEN_MODE, ANNOTATION_UNAFFECTED, SYSTEM_NAMESPACE
from kernelsecret.registration import Registration
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.nodes import agent_pod
from tests.apiserver.harness.objects import OPTED_IN, interceptor
from tests.apiserver.test_policies import injected

SPACE, NODE, OTHER = "unaffected", "unaffected-1", "unaffected-2"
TEXT = "/bin/busybox: static"
MANY = {Program(f"/opt/{number:02}/{'x' * 80}", Why.STATIC) for number in range(40)}


@pytest.fixture(scope="module")
def scene(alone: Cluster) -> Iterator[Cluster]:
    """Two nodes; on the first a pod in mode `preload`, one in mode `ebpf` and its agent's, on the second one more."""
    alone.kubectl.apply(interceptor("held", SPACE))
    alone.namespace(SPACE, OPTED_IN)
    for node in (NODE, OTHER):
        alone.node(node)
    for name, mode, node in (("web", "preload", NODE), ("api", "ebpf", NODE), ("far", "preload", OTHER)):
        thing = injected(name, mode=mode)
        thing["spec"]["nodeName"] = node
        alone.core.create_namespaced_pod(SPACE, thing)
    agents = agent_pod(alone, NODE)
    yield alone
    for name in ("web", "api", "far"):
        alone.remove_pod(SPACE, name)
    alone.remove_pod(SYSTEM_NAMESPACE, agents)
    for node in (NODE, OTHER):
        alone.remove_node(node)
    alone.kubectl("delete", "secretinterceptor/held")


@pytest.fixture(scope="module")
def agent(scene: Cluster) -> Iterator[CoreV1Api]:
    """The API as the agent of the first node has it."""
    yield from as_agent(scene, pod=f"agent-on-{NODE}")


def as_agent(scene: Cluster, *, pod: str = "") -> Iterator[CoreV1Api]:
    untyped: Any = config
    file = scene.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file=f"unaffected-{pod or 'free'}.json", pod=pod)
    with untyped.new_client_from_config(config_file=str(file)) as client:
        yield CoreV1Api(client)


def noted(text: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {ANNOTATION_UNAFFECTED: text}}}


def refused(api: CoreV1Api, change: dict[str, Any], pod: str = "web") -> str:
    with pytest.raises(ApiException) as answer:
        api.patch_namespaced_pod_status(pod, SPACE, change)
    assert answer.value.status in (403, 422)
    return str(json.loads(answer.value.body or "{}")["message"])


def says(scene: Cluster, pod: str = "web") -> str | None:
    found = scene.kubectl.get(f"pod/{pod}", "--namespace", SPACE)["metadata"]["annotations"].get(ANNOTATION_UNAFFECTED)
    assert found is None or isinstance(found, str)
    return found


async def no_registration(_pod: PodRef) -> Registration:
    raise Refused(Code.NOT_FOUND, "registration", "there is none")


async def test_the_agent_tells_and_one_that_starts_again_reads_what_was_told(scene: Cluster) -> None:
    uid = scene.core.read_namespaced_pod("web", SPACE).metadata.uid
    pod = PodRef(SPACE, "web", uid, "default")
    file = scene.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file="unaffected-own.json", pod=f"agent-on-{NODE}")
    async with ApiClient(from_kubeconfig(file)) as client:
        notes = PodAnnotation(client, ApiCluster(client, NODE, no_registration))
        assert await notes.read(pod) == set()
        await notes.write(pod, TEXT)
        assert await asyncio.to_thread(says, scene) == TEXT
        assert await notes.read(pod) == {Program("/bin/busybox", Why.STATIC)}
        await notes.write(pod, told(MANY))
        assert (await notes.read(pod)) < MANY
        # Another pod of that name, or none, is told nothing, and that is no error.
        await notes.write(PodRef(SPACE, "web", "11111111-1111-4111-8111-111111111111", "default"), "x")
        await notes.write(PodRef(SPACE, "gone", uid, "default"), "x")
        assert await asyncio.to_thread(says, scene) == told(MANY)
        assert await notes.read(PodRef(SPACE, "gone", uid, "default")) == set()
        with pytest.raises(ApiError):
            await notes.write(PodRef(SPACE, "far", "", "default"), "x")


def test_an_agent_writes_to_pods_of_its_own_node_only(scene: Cluster, agent: CoreV1Api) -> None:
    assert "pods of its own node only" in refused(agent, noted(TEXT), "far")
    for free in as_agent(scene):
        assert "pods of its own node only" in refused(free, noted(TEXT))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": {"phase": "Failed"}}, "an agent changes nothing of a pod but"),
        ({"status": {"podIP": "10.9.9.9"}}, "an agent changes nothing of a pod but"),
        ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, "an agent changes nothing of a pod but"),
        ({"metadata": {"annotations": {"a": "b"}}}, "writes kernelsecret.io/unaffected-programs only"),
        ({"metadata": {"annotations": {"kernelsecret.io/inject": None}}}, "denied request: "),
        ({"metadata": {"annotations": {ANNOTATION_CHOSEN_MODE: "ebpf"}}}, "denied request: "),
        ({"metadata": {"labels": {"tier": "web"}}}, "no label, finalizer or owner"),
        ({"metadata": {"labels": {"kernelsecret.io/injected": None}}}, "denied request: "),
        ({"metadata": {"finalizers": ["example.com/hold"]}}, "no label, finalizer or owner"),
        (noted("x" * 1025), "with 1024 characters at most"),
    ],
)
def test_an_agent_changes_nothing_else_of_a_pod(agent: CoreV1Api, change: dict[str, Any], said: str) -> None:
    assert said in refused(agent, change)


def test_an_agent_says_nothing_of_pods_in_another_mode(agent: CoreV1Api) -> None:
    assert "whose kernelsecret.io/chosen-mode is preload" in refused(agent, noted(TEXT), "api")


def test_an_agent_cannot_go_round_the_status(agent: CoreV1Api) -> None:
    with pytest.raises(ApiException) as answer:
        agent.patch_namespaced_pod("web", SPACE, noted(TEXT))
    assert answer.value.status == 403
    assert "cannot patch resource" in str(answer.value.body)


def test_nobody_else_writes_it_neither_through_the_pod_nor_through_its_status(scene: Cluster, agent: CoreV1Api) -> None:
    agent.patch_namespaced_pod_status("web", SPACE, noted(TEXT))
    admin: Kubectl = scene.kubectl.within(SPACE)
    for way in ([], ["--subresource=status"]):
        for pod, text in (("web", "all is well"), ("web", None), ("api", TEXT)):
            said = admin.refused("patch", f"pod/{pod}", *way, "--type=merge", f"--patch={json.dumps(noted(text))}")
            assert "is written by the agent of the pod's node alone" in said
    admin("label", "pod/web", "tier=web")
    assert says(scene) == TEXT


def test_no_pod_is_born_with_it(scene: Cluster) -> None:
    thing = injected("forged", mode="preload")
    thing["metadata"]["annotations"][ANNOTATION_UNAFFECTED] = TEXT
    said = scene.kubectl.within(SPACE).refused("create", "-f-", "--dry-run=server", given=thing)
    assert "is written by the agent of the pod's node alone, once the pod runs" in said
