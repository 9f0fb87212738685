"""What the repository's manifests say, put into the cluster as a cluster admin would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import yaml

from kernelsecret.names import ANNOTATION_CHOSEN_MODE, LABEL_INJECTED, SYSTEM_NAMESPACE, WEBHOOK_CONFIGURATION
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.parts import ROOT
from tests.apiserver.harness.waiting import until

BASE: Final = ROOT / "manifests/base"
WORKLOADS: Final = {"Deployment", "DaemonSet", "Service", "PodDisruptionBudget", "PriorityClass", "NetworkPolicy"}
CONFIGURATIONS: Final = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}


def objects(cluster: Cluster) -> list[dict[str, Any]]:
    """Every object in the manifests, in the order in which kustomize would have them applied."""
    return [thing for thing in yaml.safe_load_all(cluster.kubectl("kustomize", str(BASE))) if thing]


def configurations(cluster: Cluster) -> list[dict[str, Any]]:
    """The two webhook configurations."""
    return [thing for thing in objects(cluster) if thing["kind"] in CONFIGURATIONS]


def install(cluster: Cluster) -> None:
    """All of it but the webhook configurations and what runs on nodes; returns when the policies hold."""
    cluster.kubectl.apply(*(thing for thing in objects(cluster) if thing["kind"] not in WORKLOADS | CONFIGURATIONS))
    cluster.kubectl("wait", "crd/secretinterceptors.kernelsecret.io", "--for=condition=Established", "--timeout=30s")
    cluster.account(SYSTEM_NAMESPACE, "default")
    _wait_for_policies(cluster)


def _wait_for_policies(cluster: Cluster) -> None:
    """A policy holds a moment after it was made: wait until each has refused what it is for."""
    canaries = cluster.namespace("canaries")
    canaries.apply(pod("canary"))
    forged = pod("forged", annotations={ANNOTATION_CHOSEN_MODE: "ebpf"})
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "canary", "annotations": {ANNOTATION_CHOSEN_MODE: "ebpf"}},
        "target": {"kind": "Node", "name": "nowhere"},
    }
    path = "/api/v1/namespaces/canaries/pods/canary/binding"

    def held(*words: str, given: object = None) -> None:
        command = f"kubectl {' '.join(words)}"
        until(
            lambda: "ValidatingAdmissionPolicy" in canaries.run(*words, given=given).err, f"a policy refuses {command}"
        )

    held("create", "--dry-run=server", "--filename=-", given=forged)
    held("label", "pod/canary", f"{LABEL_INJECTED}=true", "--dry-run=server")
    held("create", f"--raw={path}?dryRun=All", "--filename=-", given=binding)
    cluster.remove_pod("canaries", "canary")


@contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    """A while in which no webhook of ours is registered; what was registered is afterwards."""
    there = unregister(cluster)
    try:
        yield
    finally:
        for thing in there:
            thing["metadata"] = {"name": thing["metadata"]["name"], "labels": thing["metadata"].get("labels", {})}
            cluster.kubectl("create", "--filename=-", given=thing)


def unregister(cluster: Cluster) -> list[dict[str, Any]]:
    """Delete the webhook configurations that are there; what they were."""
    tried = [cluster.kubectl.run("get", kind, WEBHOOK_CONFIGURATION, "-ojson") for kind in sorted(CONFIGURATIONS)]
    there = [json.loads(ran.out) for ran in tried if ran.status == 0]
    for thing in there:
        cluster.kubectl("delete", thing["kind"], thing["metadata"]["name"])
    return there
