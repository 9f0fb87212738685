"""A cluster with 1,000 nodes and 200 interceptors on one core, and the real webhook on another."""

from __future__ import annotations

import asyncio
import base64
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.connection import from_kubeconfig
from bench.reviews import TEAMS, ZONES, team
from bench.tools import Tools
from kernelsecret.names import (
    HOST_WEBHOOK,
    LABEL_ENGINE,
    LABEL_INJECT,
    LABEL_INJECT_ENABLED,
    SYSTEM_NAMESPACE,
    WEBHOOK_CONFIGURATION,
)
from tests.apiserver.harness import product
from tests.apiserver.harness.cluster import Cluster, lacks
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Replica

NODES: Final = 1000
CONNECTIONS: Final = 16
AT_ONCE: Final = 16
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """What the load generator saw, and what it cost. Latencies are ms, only of a paced load."""

    reviews: int
    seconds: float
    server_cpu_s: float
    own_cpu_s: float
    latencies: list[float]


class WebhookWorld:
    """See `started`."""

    def __init__(self, folder: Path, cluster: Cluster, core: int) -> None:
        self.folder = folder
        self.cluster = cluster
        self._tools = Tools(folder / "tools")
        self.replica = Replica(cluster, "webhook-a", "", {"drain_s": "0"})
        _pin(self.replica.process.pid, core)
        self._authority = folder / "webhook-ca.crt"

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[WebhookWorld]:
        """Start all of it; the webhook has the first core for itself, everything else (we too) the second."""
        lack = lacks("etcd", "kube-apiserver", "kubectl")
        if lack:
            raise RuntimeError(f"the webhook is measured beside a real API server: {lack}")
        cores = _cores()
        os.sched_setaffinity(0, {cores[1]})
        try:
            with (
                tempfile.TemporaryDirectory(prefix="kernelsecret-bench-") as folder,
                Cluster.started(Path(folder), scheduler=False) as cluster,
            ):
                product.install(cluster)
                asyncio.run(_populate(from_kubeconfig(cluster.server.admin)))
                world = cls(Path(folder), cluster, cores[0])
                try:
                    until(world.replica.is_ready, "the webhook is ready", explain=world.replica.process.tail)
                    world.register()
                    yield world
                finally:
                    world.replica.process.stop()
        finally:
            os.sched_setaffinity(0, set(cores))

    def register(self) -> None:
        """Let the API server ask the webhook itself, without a balancer in between."""
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kernelsecret-webhook", "namespace": SYSTEM_NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
        }
        found = product.configurations(self.cluster)
        for thing in found:
            for hook in thing["webhooks"]:
                hook["clientConfig"]["service"]["port"] = self.replica.port
        self.cluster.kubectl.apply(service, *found)
        until(self._has_authority, "the authority is published", explain=self.replica.process.tail)

    def _has_authority(self) -> bool:
        found = self.cluster.kubectl.get("mutatingwebhookconfiguration", WEBHOOK_CONFIGURATION)
        bundle = found["webhooks"][0]["clientConfig"].get("caBundle", "")
        self._authority.write_bytes(base64.b64decode(bundle))
        return bool(bundle)

    def load(self, bodies: Path, count: int, rate: float = 0.0) -> Load:
        """Post `count` reviews, as fast as they are answered or `rate` a second; every answer is checked."""
        program = self._tools.path("reviews")
        how = ["open", count, f"{rate:.1f}"] if rate else ["closed", count]
        where = [self.replica.port, self._authority, HOST_WEBHOOK, "/mutate", bodies, CONNECTIONS]
        before = self._cpu_s()
        text = self._tools.run_command([str(program), *map(str, where), *map(str, how)], timeout_s=900)
        used = self._cpu_s() - before
        head, *lines = text.splitlines()
        seconds, own = map(float, head.split())
        self._expect_audit(count)
        return Load(count, seconds, used, own, [int(line) / 1e6 for line in lines])

    def _expect_audit(self, count: int) -> None:
        """The audit trail has a line for every review, soon after it. What was counted need not stay on the disk."""
        trail = self.replica.audit
        until(lambda: trail.read_bytes().count(b"\n") >= count, f"{count} reviews are in the audit trail")
        os.truncate(trail, 0)

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.replica.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Resident memory of the webhook now, in MB of 10^6 bytes."""
        return self.replica.process.resident_mb()


def _cores() -> list[int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("two cores are needed: one for the webhook, one for the load")
    return cores[:2]


def _pin(pid: int, core: int) -> None:
    """All threads that there are; others inherit it."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


async def _populate(connection: Any) -> None:
    async with ApiClient(connection, user_agent="bench") as client:
        await _create(client, ((paths.namespaces(), _namespace(number)) for number in range(TEAMS)))
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        accounts = "/api/v1/namespaces/{}/serviceaccounts"
        await _create(client, ((accounts.format(team(number)), account) for number in range(TEAMS)))
        given = ((paths.interceptors(), interceptor(team(number), team(number))) for number in range(TEAMS))
        await _create(client, given)
        await _create(client, ((paths.nodes(), _node(number)) for number in range(NODES)))

        async def admit(number: int) -> None:
            # A new node is tainted until its controller finds it ready.
            taints = _node(number)["spec"]["taints"]
            await client.patch(paths.node(f"node-{number}"), msgspec.json.encode({"spec": {"taints": taints}}))

        for begin in range(0, NODES, AT_ONCE):
            await asyncio.gather(*(admit(number) for number in range(begin, min(NODES, begin + AT_ONCE))))


async def _create(client: ApiClient, things: Iterable[tuple[str, dict[str, Any]]]) -> None:
    waiting = list(things)
    for begin in range(0, len(waiting), AT_ONCE):
        some = waiting[begin : begin + AT_ONCE]
        await asyncio.gather(*(client.create(path, msgspec.json.encode(thing), timeout_s=30) for path, thing in some))


def _namespace(number: int) -> dict[str, Any]:
    labels = {LABEL_INJECT: LABEL_INJECT_ENABLED}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team(number), "labels": labels}}


def _node(number: int) -> dict[str, Any]:
    """Nine in ten serve by `iter`, one in twenty not at all; one in twenty is tainted."""
    name = f"node-{number}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": f"m6i.{('large', 'xlarge', '2xlarge')[number % 3]}",
        "topology.kubernetes.io/region": "eu-1",
        "topology.kubernetes.io/zone": ZONES[number % len(ZONES)],
        "example.com/pool": f"pool-{number % 7}",
    }
    if number % 20 != 7:
        labels[LABEL_ENGINE] = "rewrite" if number % 20 == 8 else "iter"
    taints = [{"key": "example.com/gpu", "value": "true", "effect": "NoSchedule"}] if number % 20 == 9 else []
    status = {"addresses": [{"type": "InternalIP", "address": f"10.0.{number // 250}.{number % 250 + 1}"}]}
    meta = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": taints}, "status": status}
