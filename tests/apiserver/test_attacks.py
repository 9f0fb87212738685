"""What a namespace's admin tries against admission, and whoever holds the webhook, over the real API server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from kernelsecret.names import (
    ACCOUNT_WEBHOOK,
    ANNOTATION_INJECT,
    LABEL_INJECTED,
    SYSTEM_NAMESPACE,
    WEBHOOK_CONFIGURATION,
)
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl, Ran
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.parts import part
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "attacks"
MANY = 40_000
"""Annotations that fit into one pod. The API server timed out where each of them was compared with ours."""


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    webhook.cluster.kubectl.apply(interceptor("db", NAMESPACE))
    kubectl = webhook.cluster.namespace(NAMESPACE, OPTED_IN)
    kubectl("create", "-f-", given=pod("injected", "db"))
    return kubectl


def seconds_of_a_fat_pod(cluster: Cluster, namespace: str) -> float:
    """What it takes to create a pod with many annotations, and to say that it runs."""
    began = time.monotonic()
    noted = {f"{number:x}": "" for number in range(MANY)}
    cluster.core.create_namespaced_pod(namespace, pod("fat", annotations=noted, serviceAccountName="fat"))
    cluster.set_running(namespace, "fat")
    took = time.monotonic() - began
    cluster.remove_pod(namespace, "fat")
    return took


def test_tens_of_thousands_of_annotations_cost_the_api_server_little_more_than_without_us(webhook: Webhook) -> None:
    cluster = webhook.cluster
    cluster.namespace("attacks-fat")
    for namespace in ("kube-system", "attacks-fat"):
        cluster.account(namespace, "fat")
    assert seconds_of_a_fat_pod(cluster, "attacks-fat") < 5 * seconds_of_a_fat_pod(cluster, "kube-system") + 5.0


@pytest.mark.parametrize("subresource", ["status", "resize", "ephemeralcontainers"])
@pytest.mark.parametrize("way", ["--type=merge", "--type=strategic", "--type=json"])
def test_no_subresource_changes_what_admission_wrote(shop: Kubectl, subresource: str, way: str) -> None:
    before = _ours(shop)
    meta: dict[str, Any] = {"annotations": {ANNOTATION_INJECT: "false"}, "labels": {LABEL_INJECTED: None}}
    operation = {"op": "remove", "path": "/metadata/labels/kernelsecret.io~1injected"}
    patch = [operation] if way == "--type=json" else {"metadata": meta}
    shop.run("patch", "pod/injected", f"--subresource={subresource}", way, f"--patch={json.dumps(patch)}")
    assert _ours(shop) == before


def test_server_side_apply_is_admission_too(shop: Kubectl) -> None:
    shop("apply", "--server-side", "-f-", given=pod("applied", "db"))
    assert _ours(shop, "applied") == _ours(shop)
    thing = pod("applied", "false")
    said = shop.refused("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f-", given=thing)
    assert ANNOTATION_INJECT in said


ALL = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
HELD: dict[str, dict[str, Any]] = {
    "more is sent to it": {"rules": [ALL]},
    "what it refuses is let in": {"failurePolicy": "Ignore"},
    "of all namespaces": {"namespaceSelector": {}},
    "of all pods": {"matchConditions": []},
    "of some pods": {"objectSelector": {"matchLabels": {"a": "b"}}},
    "others decide": {"clientConfig": {"url": "https://elsewhere.example.com/"}},
    "never in time": {"timeoutSeconds": 1},
    "another webhook": {"name": "other.kernelsecret.io"},
}


@pytest.mark.parametrize("kind", ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"])
@pytest.mark.parametrize("change", HELD.values(), ids=HELD)
def test_whoever_holds_the_webhook_cannot_turn_its_configurations_to_other_things(
    webhook: Webhook, kind: str, change: dict[str, Any]
) -> None:
    replaced = _as_webhook(webhook.cluster, kind, change)
    assert "changes nothing of its configurations but caBundle" in replaced.err


@pytest.mark.parametrize("kind", ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"])
def test_the_webhook_writes_the_authority_into_its_configurations(webhook: Webhook, kind: str) -> None:
    assert _as_webhook(webhook.cluster, kind, {}).status == 0


def _as_webhook(cluster: Cluster, kind: str, change: dict[str, Any]) -> Ran:
    """What the API server says to its account, that changes the first webhook of a configuration and its authority."""
    program = part("kubectl")
    assert program is not None
    file = cluster.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_WEBHOOK, file="attacks-webhook.json")
    thing = cluster.kubectl.get(kind, WEBHOOK_CONFIGURATION)
    first = thing["webhooks"][0]
    first["clientConfig"]["caBundle"] = None
    first |= change
    return Kubectl(program, file, cluster.folder).run("replace", "-f-", "--dry-run=server", given=thing)


def _ours(kubectl: Kubectl, name: str = "injected") -> dict[str, str]:
    meta = kubectl.get(f"pod/{name}")["metadata"]
    every = {**meta["annotations"], **meta["labels"]}
    return {key: value for key, value in every.items() if key.startswith("kernelsecret.io/")}
