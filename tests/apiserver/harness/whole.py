"""A node of the cluster with all that a real one has of ours: the agent as a process, with the rights of its account
and tokens that are bound to its pod; kubelet's calls over the CSI socket; programs in pods' cgroups.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from pathlib import Path
from typing import Any, Final

from agent.csi.client import CallError, target_path_of
from agent.model import PodRef
from kernelsecret.names import (
    ACCOUNT_AGENT,
    ATTRIBUTE_INTERCEPTOR,
    AUDIENCE_IDENTITY,
    DRIVER_NAME,
    LABEL_ENGINE,
    SYSTEM_NAMESPACE,
)
from tests.agent.harness import DEADLINE_S, Node
from tests.agent.tree import Pod
from tests.apiserver.harness.balancer import Balancer, Target
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.nodes import agent_pod
from tests.apiserver.harness.objects import OPTED_IN, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import PROGRAM, Webhook

ADDRESS: Final = "127.0.0.31"
RETRY_S: Final = 0.1
"""Kubelet takes half a second at first, and longer each time."""


class NodesDoor(Balancer):
    """The Service's other port, where agents ask. It does not tell whether it is ready, so what listens is used."""

    def follow(self, webhook: Webhook) -> None:
        """Lead to the replicas that there are now."""
        for name in self._targets.keys() - webhook.replicas.keys():
            self.remove(name)
        for name, replica in webhook.replicas.items():
            self.add(name, replica.nodes_port)

    async def _is_ready(self, target: Target, unverified: ssl.SSLContext) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", target.port)
        except OSError:
            return False
        writer.close()
        return True


class WholeNode(Node):
    """A node named like its namespace of pods; `start` and `kill` its agent as of any `Node`."""

    command = (str(PROGRAM), "agent")

    def __init__(self, webhook: Webhook, name: str) -> None:
        super().__init__()
        self.webhook, self.name = webhook, name
        self.of = webhook.cluster
        self.door = NodesDoor()
        self.door.follow(webhook)
        self.of.node(name, address=ADDRESS)
        self.kubectl: Kubectl = self.of.namespace(name, OPTED_IN)
        self._agent_pod = agent_pod(self.of, name)
        self.env |= {
            "KERNELSECRET_NODE": name,
            "KERNELSECRET_CLUSTER": "api",
            "KERNELSECRET_KUBECONFIG": str(self._kubeconfig()),
            "KERNELSECRET_REGISTRATIONS_ADDRESS": f"{ADDRESS}:{webhook.settings['agent_port']}",
            "KERNELSECRET_WEBHOOK_ADDRESS": f"127.0.0.1:{self.door.port}",
            "KERNELSECRET_IDENTITY_TOKEN": str(self._identity_token()),
        }

    def _kubeconfig(self) -> Path:
        """As kubelet gives the agent's pod its account: bound to the pod, and so to the node."""
        return self.of.kubeconfig_of(
            SYSTEM_NAMESPACE, ACCOUNT_AGENT, file=f"agent-{self.name}.json", pod=self._agent_pod
        )

    def _identity_token(self) -> Path:
        path = self.of.folder / f"agent-{self.name}.token"
        path.touch(mode=0o600)
        path.write_text(self.of.token(SYSTEM_NAMESPACE, ACCOUNT_AGENT, audience=AUDIENCE_IDENTITY, pod=self._agent_pod))
        return path

    # The cluster, as a user sees it

    def label(self) -> str | None:
        """What the Node says of how this node serves."""
        found: dict[str, str] = self.of.core.read_node(self.name).metadata.labels
        return found.get(LABEL_ENGINE)

    async def joined(self) -> None:
        """Start the agent; wait until it has said on its Node what it can do, and has its certificate."""
        await self.started()
        until(self.label, "the node says its engine", explain=self.said)
        self.identified()

    def identified(self, times: int = 1) -> None:
        """Wait until the agent, whichever it was, was given so many certificates."""
        until(lambda: len(self.logged("node certificate renewed")) >= times, "it has a certificate", explain=self.said)

    def measured(self, what: str, seconds: float) -> None:
        """Print a time (pytest -s shows it); nothing is held to it."""
        sys.stdout.write(f"\nmeasured: {what}: {1000 * seconds:.1f} ms\n")

    def said(self) -> str:
        """The ends of the agent's log and of the webhook's."""
        return f"{self.log.read_text()[-3000:]}\n{self.webhook.tails()}"

    def told(self, name: str, reason: str) -> list[dict[str, Any]]:
        """The events of a reason about a pod."""
        selected = f"--field-selector=regarding.name={name},reason={reason}"
        items: list[dict[str, Any]] = self.kubectl.get("events.v1.events.k8s.io", selected)["items"]
        return items

    def applied(self, name: str, inject: str, **more: Any) -> Pod:
        """kubectl apply of a pod that asks, for this node; wait until the scheduler has bound it."""
        self.bound(name, inject, **more)
        return self.kubelets(name)

    def bound(self, name: str, inject: str, **more: Any) -> None:
        """As `applied`, of a pod that does not have this node's cgroup."""
        self.kubectl.apply(pod(name, inject, **{"nodeSelector": {"kubernetes.io/hostname": self.name}, **more}))
        assert self.of.bound(self.name, name) == self.name

    def kubelets(self, name: str) -> Pod:
        """A pod that is bound to this node as its kubelet has it by its live spec, with its cgroup."""
        live = self.of.core.read_namespaced_pod(name, self.name)
        ours = [one for one in live.spec.volumes if one.csi and one.csi.driver == DRIVER_NAME]
        [volume] = [one for one in ours if ATTRIBUTE_INTERCEPTOR in one.csi.volume_attributes]
        ref = PodRef(self.name, name, live.metadata.uid, live.spec.service_account_name)
        target = target_path_of(self.kubelet, ref.uid, volume.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Pod(ref, volume.csi.volume_attributes[ATTRIBUTE_INTERCEPTOR], target)
        self._containers[ref.uid] = self.cgroups.make(made)
        return made

    async def mounted(self, wanted: Pod, **changes: Any) -> list[CallError]:
        """Publish as kubelet does it, again and again until it works; how it was refused before that."""
        refusals: list[CallError] = []
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            try:
                await self.publish(wanted, **changes)
            except CallError as error:
                refusals.append(error)
                await asyncio.sleep(RETRY_S)
            else:
                return refusals
        raise AssertionError(f"not published: {refusals[-1]}\n{self.said()}")

    def held(self) -> float:
        """How many registrations were handed over to this agent."""
        return self.metric("kernelsecret_registrations_total", result="held")

    def asked(self) -> float:
        """How many the agent had to ask for, and got."""
        return self.metric("kernelsecret_registrations_asked_total", result="ok")

    # The webhook

    def stop_webhook(self) -> None:
        """End all replicas."""
        for name in tuple(self.webhook.replicas):
            self.webhook.forget(name).process.stop()
        self.door.follow(self.webhook)

    def start_webhook(self) -> None:
        """Have two replicas again."""
        self.webhook.fill(2)
        self.door.follow(self.webhook)

    def close(self) -> list[str]:
        """End everything of this node; what is left of it on the machine, in words."""
        self.door.close()
        left = super().close()
        _leave(self.of, self.name, self._agent_pod)
        return left


def _leave(cluster: Cluster, name: str, agents_pod: str) -> None:
    for one in cluster.core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={name}").items:
        if one.metadata.name != agents_pod:
            cluster.remove_pod(one.metadata.namespace, one.metadata.name)
    cluster.remove_pod(SYSTEM_NAMESPACE, agents_pod)
    cluster.remove_node(name)
