"""The whole agent with an API server and a webhook in place of files: what it waits for, asks for, says, and outlives.

The API server is the fake one of the reflectors' tests, over real HTTP; the webhook's door for nodes is the real one.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.csi.client import CallError, target_path_of
from agent.model import PodRef
from kernelsecret.names import SYSTEM_NAMESPACE, TRUST_OBJECT
from tests.agent.harness import DEADLINE_S, Node, _free_port, until
from tests.agent.tree import Pod
from tests.unit.contract.builders import example
from tests.unit.registrations import scene
from tests.unit.registrations.scene import NODE, UID
from tests.unit.webhook.handover.scene import NAMESPACE, TOKEN, Webhook, webhook
from webhook.handover.agents import Agents, Answer

NAME = "payments-db"
VALUES = {"username": b"alice", "password": b"hunter2-canary"}


@dataclass
class World:
    """A node whose cluster is an API server, and the webhook."""

    node: Node
    webhook: Webhook
    pod: Pod
    port: int

    async def trust(self) -> None:
        """The leading webhook publishes whom to trust."""
        listed = msgspec.json.encode([self.webhook.key.public]).decode()
        data = {"ca.crt": self.webhook.authority.certificate_pem, "registration-keys.json": listed}
        await self.webhook.api.put("configmaps", TRUST_OBJECT, SYSTEM_NAMESPACE, data=data)

    async def interceptor(self, policy: str = "refuse", **metadata: Any) -> None:
        """The example, with this policy."""
        thing = example()
        thing["spec"]["delivery"]["onUnavailable"] = policy
        await self.webhook.api.put("secretinterceptors", NAME, spec=thing["spec"], metadata=metadata)

    async def hand_over(self) -> Answer:
        """As the webhook does it after the binding."""
        context = scene.webhook_context(self.webhook.authority)
        agents = Agents(lambda: context, port=self.port)
        try:
            live = await self.webhook.issuer.live("payments", "api-0")
            signed = msgspec.json.encode(await self.webhook.issuer.issue(live))
            return await agents.put(NODE, "127.0.0.1", UID, signed)
        finally:
            await agents.close()

    async def published(self) -> None:
        """As kubelet does it: again and again until it works."""
        end = asyncio.get_running_loop().time() + DEADLINE_S
        while True:
            try:
                await self.node.publish(self.pod)
                return
            except CallError as error:
                if error.code != "UNAVAILABLE" or asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(0.1)

    def label(self) -> str | None:
        """The Node's label."""
        found: dict[str, str] = self.webhook.api.objects["nodes", "", NODE]["metadata"].get("labels", {})
        return found.get("kernelsecret.io/engine")

    def asked(self) -> list[str]:
        """What the webhook's door answered."""
        return self.webhook.answers


@asynccontextmanager
async def world(node: Node, credentials: Path) -> AsyncIterator[World]:
    token, kubeconfig = credentials / "token", credentials / "kubeconfig"
    token.write_text(TOKEN)
    async with webhook() as door:
        await door.api.put("nodes", NODE)
        await door.api.put("namespaces", "payments", metadata={"labels": NAMESPACE})
        await door.api.put_pod()
        kubeconfig.write_text(json.dumps(_kubeconfig(door.client._base)))
        port = _free_port()
        node.env |= {
            "KERNELSECRET_NODE": NODE,
            "KERNELSECRET_CLUSTER": "api",
            "KERNELSECRET_KUBECONFIG": str(kubeconfig),
            "KERNELSECRET_REGISTRATIONS_ADDRESS": f"127.0.0.1:{port}",
            "KERNELSECRET_WEBHOOK_ADDRESS": f"127.0.0.1:{door.port}",
            "KERNELSECRET_IDENTITY_TOKEN": str(token),
        }
        node.secret("payments/db", VALUES)
        made = World(node, door, _kubelets(node), port)
        await made.interceptor()
        yield made


def _kubeconfig(server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "kubeconfig-canary"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def _kubelets(node: Node) -> Pod:
    """The pod of the scene as kubelet has it, with its cgroup."""
    target: Path = target_path_of(node.kubelet, UID, "kernelsecret")
    target.parent.mkdir(parents=True)
    pod = Pod(PodRef("payments", "api-0", UID, "api"), NAME, target)
    node._containers[UID] = node.cgroups.make(pod)
    return pod


async def test_an_agent_is_ready_before_its_webhook_and_a_pod_of_before_succeeds_as_soon_as_that_is_there(
    node: Node, tmp_path: Path
) -> None:
    async with world(node, tmp_path) as made:
        await node.started()
        assert node.status()["cluster"] == "api"
        error = await node.refused(made.pod)
        assert error.code == "UNAVAILABLE"
        assert "this node has no certificate yet" in error.details
        await until(lambda: "kernelsecret-trust" in node.conditions().get("not-identified", ""), "it is told")
        await until(lambda: made.label() == "iter", "the engine is published")
        await made.trust()
        await made.published()
        program = node.program(made.pod)
        assert program.read(made.pod.target / "password") == [VALUES["password"]]
        await until(lambda: "not-identified" not in node.conditions(), "the condition ends")
        assert node.metric("kernelsecret_registrations_asked_total", result="ok") == 1
        await node.publish(made.pod)
        assert node.metric("kernelsecret_registrations_asked_total", result="ok") == 1, "a refresh asks for none"
        await node.unpublish(made.pod)
        node.assert_kept(*VALUES.values(), TOKEN.encode(), b"kubeconfig-canary")


async def test_what_is_handed_over_is_not_asked_for(node: Node, tmp_path: Path) -> None:
    async with world(node, tmp_path) as made:
        await made.trust()
        await node.started()
        await until(lambda: bool(node.logged("node certificate renewed")), "the node has its certificate")
        made.webhook.answers.clear()
        assert await made.hand_over() is Answer.TAKEN
        assert node.metric("kernelsecret_registrations_total", result="held") == 1
        await node.publish(made.pod)
        assert made.asked() == []
        assert await made.hand_over() is Answer.TAKEN, "each is signed anew"


async def test_what_the_watches_bring_closes_and_opens_the_volume_of_a_running_pod(node: Node, tmp_path: Path) -> None:
    async with world(node, tmp_path) as made:
        await made.trust()
        await node.started()
        await made.published()
        program = node.program(made.pod)
        path = made.pod.target / "password"
        api = made.webhook.api
        await api.remove("secretinterceptors", NAME)
        await until(lambda: program.read(path) == [errno.E2BIG], "the volume is closed")
        await made.interceptor()
        await until(lambda: program.read(path) == [VALUES["password"]], "the volume is open")
        await api.put("namespaces", "payments", metadata={"labels": {}})
        await until(lambda: program.read(path) == [errno.E2BIG], "the volume is closed")
        await api.put("namespaces", "payments", metadata={"labels": NAMESPACE})
        await until(lambda: program.read(path) == [VALUES["password"]], "the volume is open")
        await made.interceptor(deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["kernelsecret.io/in-use"])
        await until(lambda: program.read(path) == [errno.E2BIG], "the volume is closed")
        fields = [
            "interceptor payments-db",
            "namespace.metadata.labels[kernelsecret.io/inject]",
            "interceptor payments-db: metadata.deletionTimestamp",
        ]
        await until(lambda: [one["field"] for one in node.audited("right-ended")] == fields, "each end is audited")


async def test_a_pod_of_another_uid_than_the_live_one_is_refused_and_audited(node: Node, tmp_path: Path) -> None:
    async with world(node, tmp_path) as made:
        await made.trust()
        await node.started()
        await made.published()
        await made.webhook.api.put_pod(metadata__uid="11111111-9d2c-4a53-8f4e-2f1f3c6c7d11")
        error = await node.refused(made.pod.second())
        assert error.code == "PERMISSION_DENIED"
        assert error.details.startswith("volume_context[csi.storage.k8s.io/pod.uid]: ")
        last = node.audited("publish-refused")[-1]
        assert (last["pod_uid"], last["field"]) == (UID, "volume_context[csi.storage.k8s.io/pod.uid]")
        assert (await node.refused(made.pod)).code == "PERMISSION_DENIED", "nor is it asked for again"


async def test_an_agent_without_its_api_server_serves_takes_over_and_tells(node: Node, tmp_path: Path) -> None:
    async with world(node, tmp_path) as made:
        await made.trust()
        await node.started()
        await made.published()
        program = node.program(made.pod)
        node.kill()
        made.webhook.api.token = "nobody has this one"
        await node.started()
        assert node.status()["adopted"] == 1
        assert program.read(made.pod.target / "password") == [VALUES["password"]]
        assert "401" in node.conditions()["cluster-unreadable"]
        assert "engine-unpublished" in node.conditions()
        await node.publish(made.pod)
        assert made.label() == "iter"
        made.webhook.api.token = ""
        gone = {"cluster-unreadable", "engine-unpublished", "not-identified"}
        await until(lambda: not gone & set(node.conditions()), "the conditions end")
        assert node.stop() == 0
        assert made.label() == "iter", "an agent that ends takes nothing away"
