"""A Kubernetes source as an agent of one node has it, over the real API server, with tokens bound to real pods."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.credentials import Credentials, PodToken
from agent.model import PodRef, SecretRef, SecretVersion
from agent.sources.kubernetes.source import KubernetesSource
from apiclient.connection import Connection, from_kubeconfig
from kernelsecret.names import ACCOUNT_AGENT, SYSTEM_NAMESPACE
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.nodes import eventually
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.parts import ROOT

EXAMPLES = ROOT / "docs" / "examples" / "kubernetes"
PACE_S = 0.5


class Heard:
    """An observer: versions and problems, and the moment of each by CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.versions: list[tuple[SecretVersion, float]] = []
        self.problems: list[str] = []

    def changed(self, version: SecretVersion) -> None:
        """Note it."""
        self.versions.append((version, time.monotonic()))

    def failed(self, ref: SecretRef, problem: str) -> None:
        """Note it."""
        self.problems.append(problem)

    async def value(self, key: str, value: bytes) -> float:
        """Wait until the last version has this value; when it was told."""

        def has() -> bool:
            return bool(self.versions) and self.versions[-1][0].values.get(key) == value

        await eventually(has, f"a version with this value of {key}", lambda: str(self.problems))
        return self.versions[-1][1]

    async def problem(self, text: str) -> str:
        """Wait until the last problem speaks of this."""
        await eventually(
            lambda: bool(self.problems) and text in self.problems[-1], f"is told: {text}", lambda: str(self.problems)
        )
        return self.problems[-1]


@dataclass
class Reader:
    """The source, and what kubelet and users do."""

    cluster: Cluster
    namespace: str
    source: KubernetesSource
    credentials: Credentials
    hints: list[str] = field(default_factory=list)

    @property
    def ref(self) -> SecretRef:
        """The Secret `db` as the pod's account reads it."""
        return SecretRef("kubernetes", f"{self.namespace}/db", f"{self.namespace}/api")

    @property
    def by_agent(self) -> SecretRef:
        """The same as the agent's own account reads it."""
        return SecretRef("kubernetes", f"{self.namespace}/db")

    async def bring_token(self, *, lasts_s: float = 600.0) -> str:
        """As kubelet does it with a publish."""
        token = await asyncio.to_thread(self.cluster.token, self.namespace, "api", pod="api-0", seconds=600)
        self.credentials.put(self.pod, {"": PodToken(token, time.time() + lasts_s)})
        return token

    @property
    def pod(self) -> PodRef:
        """The pod that reads."""
        return PodRef(self.namespace, "api-0", "of-no-interest-here", "api")

    async def put(self, **values: bytes) -> float:
        """Write the Secret; when that was begun."""
        data = {name: base64.b64encode(value).decode() for name, value in values.items()}
        body = {"metadata": {"name": "db"}, "data": data}
        began = time.monotonic()
        write = self.cluster.core.replace_namespaced_secret
        await asyncio.to_thread(write, "db", self.namespace, body)
        return began

    async def create(self, **values: bytes) -> None:
        """Make the Secret."""
        data = {name: base64.b64encode(value).decode() for name, value in values.items()}
        body = {"metadata": {"name": "db"}, "data": data}
        await asyncio.to_thread(self.cluster.core.create_namespaced_secret, self.namespace, body)

    async def delete(self) -> None:
        """Take the Secret away."""
        await asyncio.to_thread(self.cluster.core.delete_namespaced_secret, "db", self.namespace)

    async def grant(self, example: str, *, verbs: tuple[str, ...] = ("get", "watch")) -> None:
        """Apply one of the documented examples in this namespace."""
        await asyncio.to_thread(self.cluster.kubectl.apply, *_rights(example, self.namespace, verbs))

    async def revoke(self, example: str) -> None:
        """Take its RoleBinding away."""
        [_, binding] = _rights(example, self.namespace, ())
        words = ("delete", "rolebinding", binding["metadata"]["name"], "--namespace", self.namespace)
        await asyncio.to_thread(self.cluster.kubectl, *words)


def _rights(example: str, namespace: str, verbs: tuple[str, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text()))
    role, binding = found
    for thing in found:
        thing["metadata"]["namespace"] = namespace
    role["rules"][0]["verbs"] = list(verbs)
    for subject in binding["subjects"]:
        if subject["namespace"] == "payments":
            subject["namespace"] = namespace
    return found


@asynccontextmanager
async def reader(cluster: Cluster, namespace: str, node: str) -> AsyncIterator[Reader]:
    """A new namespace with an account, one of its pods on the node, and a source with the agent's own rights."""
    await asyncio.to_thread(_prepared, cluster, namespace, node)
    file = await asyncio.to_thread(
        cluster.kubeconfig_of, SYSTEM_NAMESPACE, ACCOUNT_AGENT, file=f"source-{namespace}.json", pod=f"agent-on-{node}"
    )
    async with reading(cluster, namespace, from_kubeconfig(file)) as made:
        await made.bring_token()
        yield made
    await asyncio.to_thread(cluster.remove_pod, namespace, "api-0")


@asynccontextmanager
async def reading(cluster: Cluster, namespace: str, connection: Connection) -> AsyncIterator[Reader]:
    """A source without any token, that is closed in the end."""
    credentials = Credentials()
    source = KubernetesSource(
        connection, credentials, lambda ref: PACE_S, hint=lambda ref, text: made.hints.append(text)
    )
    made = Reader(cluster, namespace, source, credentials)
    try:
        yield made
    finally:
        await source.close()


@asynccontextmanager
async def heard(made: Reader, ref: SecretRef | None = None, *, watches: bool = True) -> AsyncIterator[Heard]:
    """An observer of the Secret, once it is watched."""
    wanted = ref or made.ref
    observer = Heard()
    stop = made.source.watch(wanted, observer)
    try:
        if watches:
            await watched(made, wanted)
        yield observer
    finally:
        stop()


async def watched(made: Reader, ref: SecretRef) -> None:
    """Wait until the watch is open."""

    def is_open() -> bool:
        facts = made.source.facts(ref)
        return facts is not None and facts.how == "watch"

    await eventually(is_open, "it is watched", lambda: str(made.source.facts(ref)))


def _prepared(cluster: Cluster, namespace: str, node: str) -> None:
    cluster.namespace(namespace)
    cluster.account(namespace, "api")
    cluster.core.create_namespaced_pod(namespace, pod("api-0", serviceAccountName="api", nodeName=node))


def quantiles(seconds: list[float]) -> Mapping[str, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{part}": 1000 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)] for part in (50, 99)}
