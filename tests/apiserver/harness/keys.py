"""The webhook's keys as a cluster admin and an agent see them, and time that passes for them."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from kubernetes.client import ApiException

from kernelsecret.names import KEYS_OBJECT, SYSTEM_NAMESPACE, TRUST_OBJECT, WEBHOOK_CONFIGURATION
from kernelsecret.trust import FIELD_REGISTRATION_KEYS
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.product import configurations


def authorities(cluster: Cluster) -> set[int]:
    """Serial numbers of the authorities that the API server trusts, the same for every webhook of ours."""
    bundles = {
        hook["clientConfig"].get("caBundle", "")
        for thing in configurations(cluster)
        for hook in cluster.kubectl.get(thing["kind"], WEBHOOK_CONFIGURATION)["webhooks"]
    }
    assert len(bundles) == 1
    return {one.serial_number for one in x509.load_pem_x509_certificates(base64.b64decode(bundles.pop()))}


def published(cluster: Cluster) -> dict[str, str]:
    """What agents are told to trust."""
    found: dict[str, str] = cluster.kubectl.within(SYSTEM_NAMESPACE).get(f"configmap/{TRUST_OBJECT}")["data"]
    return found


def registration_keys(cluster: Cluster) -> set[str]:
    """Ids of the keys whose registrations agents are told to accept."""
    return {key["id"] for key in json.loads(published(cluster)[FIELD_REGISTRATION_KEYS])}


def state(cluster: Cluster) -> dict[str, Any]:
    """The leader's notes of its keys; only a cluster admin sees them."""
    data = cluster.core.read_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE).data
    found: dict[str, Any] = json.loads(base64.b64decode(data["state.json"]))
    return found


def keys_published(cluster: Cluster) -> bool:
    """Whether the leader knows that all keys are where their readers look."""
    kept = state(cluster)
    return all(key["stamps"]["publishedAt"] for key in kept["authorities"] + kept["signingKeys"])


def time_passes(cluster: Cluster, **time: float) -> None:
    """Everything that the leader knows of its keys was so much earlier: their lives are months."""
    earlier = timedelta(**time)
    while True:
        secret = cluster.core.read_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE)
        kept = json.loads(base64.b64decode(secret.data["state.json"]))
        for key in kept["authorities"] + kept["signingKeys"]:
            for name, moment in key["stamps"].items():
                key["stamps"][name] = moment and (datetime.fromisoformat(moment) - earlier).isoformat()
        secret.data["state.json"] = base64.b64encode(json.dumps(kept).encode()).decode()
        try:
            cluster.core.replace_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE, secret)
        except ApiException as error:
            if error.status == 409:  # the leader was faster
                continue
            raise
        return
