"""The real webhook: replicas of `kernelsecret-ctl webhook` behind its Service, with no more rights than RBAC gives."""

from __future__ import annotations

import itertools
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kernelsecret.names import ACCOUNT_WEBHOOK, LEASE_WEBHOOK, SERVICE_WEBHOOK, SYSTEM_NAMESPACE
from tests.apiserver.harness.balancer import Balancer
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.processes import Process, free_ports
from tests.apiserver.harness.product import configurations, unregister
from tests.apiserver.harness.waiting import until

PROGRAM: Final = Path(sys.executable).with_name("kernelsecret-ctl")
PREFIX: Final = "KERNELSECRET_WEBHOOK_"


class Replica:
    """One process; `port` is for the API server, `nodes_port` for agents. `settings` are names without the prefix."""

    def __init__(self, cluster: Cluster, name: str, server: str, settings: dict[str, str]) -> None:
        self.name = name
        self.port, self.nodes_port = free_ports(2)
        file = f"webhook-{name}.json"
        kubeconfig = cluster.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_WEBHOOK, file=file, server=server)
        given = {
            "kubeconfig": str(kubeconfig),
            "address": f"127.0.0.1:{self.port}",
            "nodes_address": f"127.0.0.1:{self.nodes_port}",
            "identity": name,
            "audit_log": str(cluster.folder / f"webhook-{name}-audit.jsonl"),
            **settings,
        }
        plain = {key: value for key, value in os.environ.items() if not key.startswith("KERNELSECRET_")}
        environment = plain | {f"{PREFIX}{key.upper()}": value for key, value in given.items()}
        self.process = Process([PROGRAM, "webhook"], cluster.folder / f"webhook-{name}.log", environment)
        self.audit = Path(given["audit_log"])

    def is_ready(self) -> bool:
        """What /readyz says; AssertionError with the log where the process has ended."""
        self.process.alive()
        try:
            return self.ask("/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, path: str) -> tuple[int, str]:
        """GET of a path as an operator: status and body. Raises OSError where nothing answers."""
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        url = f"https://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5, context=unverified) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels; 0 where there is none."""
        total = 0.0
        for line in self.ask("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(
                f'{key}="{wanted}"' in series for key, wanted in labels.items()
            ):
                total += float(value)
        return total

    def records(self) -> list[dict[str, Any]]:
        """Its audit trail."""
        if not self.audit.exists():
            return []
        # The last line may be half written while it is read.
        whole, _, _ = self.audit.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]


class Webhook:
    """The Service and its replicas; see `serving`."""

    def __init__(self, cluster: Cluster, settings: dict[str, str]) -> None:
        self.cluster = cluster
        self.settings = settings
        self.balancer = Balancer()
        self.replicas: dict[str, Replica] = {}
        self._numbers = itertools.count(1)

    def start(self, name: str = "", *, server: str = "") -> Replica:
        """Start a replica; it is given requests from when it is ready. `server` is the API server that it watches, if
        not the cluster's first.
        """
        name = name or f"replica-{next(self._numbers)}"
        replica = Replica(self.cluster, name, server, self.settings)
        self.replicas[name] = replica
        self.balancer.add(name, replica.port)
        return replica

    def fill(self, count: int = 2) -> None:
        """Have so many replicas, ready and registered."""
        while len(self.replicas) < count:
            self.start()
        self.wait_ready()
        self.wait_registered()

    def wait_ready(self, *names: str) -> None:
        """Wait until these (by default all) replicas are ready, and known to be."""
        for name in names or tuple(self.replicas):
            replica = self.replicas[name]
            until(
                lambda one=replica: one.is_ready() and one.name in self.balancer.ready(),  # type: ignore[misc]
                f"replica {name} is ready",
                explain=replica.process.tail,
            )

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric over the replicas."""
        return sum(replica.metric(name, **labels) for replica in self.replicas.values())

    def audited(self, pod_name: str) -> list[dict[str, Any]]:
        """Wait until something about a pod is in the audit trails; all of it."""

        def records() -> list[dict[str, Any]]:
            every = [record for replica in self.replicas.values() for record in replica.records()]
            return [record for record in every if record.get("name") == pod_name]

        return until(records, f"{pod_name} is audited", explain=self.tails)

    def forget(self, name: str) -> Replica:
        """Take a replica out of the Service, as when its pod is deleted; the process is as it was."""
        self.balancer.remove(name)
        return self.replicas.pop(name)

    def leader(self) -> str:
        """Who holds the lease now; empty where nobody does."""
        ran = self.cluster.kubectl.run("get", "lease", LEASE_WEBHOOK, f"--namespace={SYSTEM_NAMESPACE}", "-ojson")
        return str(json.loads(ran.out)["spec"].get("holderIdentity") or "") if ran.status == 0 else ""

    def register(self) -> None:
        """Route the Service to the balancer and apply the manifests' configurations; wait until they are in force."""
        self.apply()
        self.wait_registered()

    def wait_registered(self) -> None:
        """Wait until the leader has written the authority into both configurations."""
        until(self._has_authority, "both configurations have the authority", explain=self.tails)

    def apply(self) -> None:
        """kubectl apply of Service and configurations, as a user does it for the first time or again."""
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE_WEBHOOK, "namespace": SYSTEM_NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
        }
        self.cluster.kubectl.apply(service, *self._routed())

    def _routed(self) -> list[dict[str, Any]]:
        found = configurations(self.cluster)
        for thing in found:
            for hook in thing["webhooks"]:
                hook["clientConfig"]["service"]["port"] = self.balancer.port
        return found

    def _has_authority(self) -> bool:
        found = [self.cluster.kubectl.get(thing["kind"], thing["metadata"]["name"]) for thing in self._routed()]
        return all(hook["clientConfig"].get("caBundle") for thing in found for hook in thing["webhooks"])

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(replica.process.tail() for replica in self.replicas.values())

    def close(self) -> None:
        """End all replicas."""
        for replica in self.replicas.values():
            replica.process.terminate()
        for replica in self.replicas.values():
            replica.process.stop()
        self.balancer.close()


@contextmanager
def serving(cluster: Cluster, *names: str, **settings: str) -> Iterator[Webhook]:
    """The webhook with these replicas, ready and registered. Afterwards none of it is left but what the API server
    keeps of it: keys, published trust and lease.
    """
    webhook = Webhook(cluster, {"drain_s": "2", "finish_s": "5", **settings})
    try:
        for name in names:
            webhook.start(name)
        webhook.wait_ready()
        webhook.register()
        yield webhook
    finally:
        unregister(cluster)
        webhook.close()
