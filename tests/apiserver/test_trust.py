"""Certificates and keys of the webhook while they change: no admission fails, and whoever trusts is told in time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from kubernetes.client import ApiException

from kernelsecret.names import DRIVER_NAME, KEYS_OBJECT, SYSTEM_NAMESPACE, TRUST_OBJECT, WEBHOOK_CONFIGURATION
from kernelsecret.trust import FIELD_AUTHORITIES, FIELD_REGISTRATION_KEYS
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.load import creating
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.product import configurations
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook, serving

NAMESPACE = "trusting"
ASKS = pod("app-", "trust-db")


@pytest.fixture(scope="module")
def ready(nodes: Cluster) -> Cluster:
    nodes.namespace(NAMESPACE, OPTED_IN)
    nodes.kubectl.apply(interceptor("trust-db", NAMESPACE))
    return nodes


@pytest.fixture
def no_keys(ready: Cluster) -> Iterator[Cluster]:
    """A cluster in which no webhook has run yet."""
    forget_keys(ready)
    yield ready
    forget_keys(ready)


def forget_keys(cluster: Cluster) -> None:
    system = cluster.kubectl.within(SYSTEM_NAMESPACE)
    system("delete", "--ignore-not-found", f"secret/{KEYS_OBJECT}", f"configmap/{TRUST_OBJECT}")


def injected(kept: Any) -> bool:
    return any(volume.csi and volume.csi.driver == DRIVER_NAME for volume in kept.spec.volumes or [])


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


def test_two_replicas_that_start_at_once_agree_on_one_authority(no_keys: Cluster) -> None:
    with serving(no_keys, "first", "second") as webhook:
        assert len(authorities(no_keys)) == 1
        for _ in range(8):
            assert injected(no_keys.core.create_namespaced_pod(NAMESPACE, ASKS, dry_run="All")), webhook.tails()


def test_agents_are_told_what_the_api_server_is_told(no_keys: Cluster) -> None:
    with serving(no_keys, "telling"):
        data = published(no_keys)
        pems = x509.load_pem_x509_certificates(data[FIELD_AUTHORITIES].encode())
        assert {one.serial_number for one in pems} == authorities(no_keys)
        keys = json.loads(data[FIELD_REGISTRATION_KEYS])
        assert [len(base64.b64decode(key["publicKey"])) for key in keys] == [32]


def test_no_private_key_is_anywhere_but_in_the_secret(no_keys: Cluster) -> None:
    with serving(no_keys, "quiet") as webhook:
        secret = no_keys.kubectl.within(SYSTEM_NAMESPACE).get(f"secret/{KEYS_OBJECT}")
        text = b"".join(base64.b64decode(value) for value in secret["data"].values()).decode()
        lines = [line for line in text.replace("\\n", "\n").splitlines() if len(line) >= 40]
        assert lines
        public = json.dumps(published(no_keys)) + "".join(
            json.dumps(no_keys.kubectl.get(thing["kind"], WEBHOOK_CONFIGURATION)) for thing in configurations(no_keys)
        )
        assert "PRIVATE" not in public
        assert "PRIVATE" not in webhook.tails()


def time_passes(cluster: Cluster, **time: float) -> None:
    """Everything that the leader knows of its keys was so much earlier: their lives are months."""
    earlier = timedelta(**time)
    while True:
        secret = cluster.core.read_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE)
        state = json.loads(base64.b64decode(secret.data["state.json"]))
        for key in state["authorities"] + state["signingKeys"]:
            for name, moment in key["stamps"].items():
                key["stamps"][name] = moment and (datetime.fromisoformat(moment) - earlier).isoformat()
        secret.data["state.json"] = base64.b64encode(json.dumps(state).encode()).decode()
        try:
            cluster.core.replace_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE, secret)
        except ApiException as error:
            if error.status == 409:  # the leader was faster
                continue
            raise
        return


def keys_published(cluster: Cluster) -> bool:
    """Whether the leader knows that all keys are where their readers look."""
    data = cluster.core.read_namespaced_secret(KEYS_OBJECT, SYSTEM_NAMESPACE).data
    state = json.loads(base64.b64decode(data["state.json"]))
    return all(key["stamps"]["publishedAt"] for key in state["authorities"] + state["signingKeys"])


def registration_keys(cluster: Cluster) -> set[str]:
    """Ids of the keys whose registrations agents are told to accept."""
    return {key["id"] for key in json.loads(published(cluster)[FIELD_REGISTRATION_KEYS])}


def test_authority_certificate_and_signing_key_change_while_pods_are_created_and_none_is_lost(
    no_keys: Cluster,
) -> None:
    with serving(no_keys, "rotating", "following") as webhook:
        first, first_keys = authorities(no_keys), registration_keys(no_keys)
        served = {name: certificate(webhook, name) for name in webhook.replicas}
        until(lambda: keys_published(no_keys), "the keys are published", explain=webhook.tails)
        with creating(no_keys, NAMESPACE, ASKS, injected) as progress:
            # In the middle of its life: a new one is published beside the old one, and not used yet.
            time_passes(no_keys, days=183)
            until(
                lambda: len(authorities(no_keys)) == 2 and keys_published(no_keys),
                "a second authority is published",
                explain=webhook.tails,
            )
            assert first < authorities(no_keys)
            assert first_keys < registration_keys(no_keys)
            assert {name: certificate(webhook, name) for name in webhook.replicas} == served
            # It was published long enough: it signs the certificate that both replicas serve from now on.
            time_passes(no_keys, days=1, minutes=5)
            until(
                lambda: all(certificate(webhook, name) != before for name, before in served.items()),
                "both replicas serve a certificate of the new authority",
                explain=webhook.tails,
            )
            after = progress.injected
            until(lambda: progress.injected > after + 50, "pods are created")
            # Nobody can hold anything any more that the old one signed.
            time_passes(no_keys, days=3)
            until(lambda: not first & authorities(no_keys), "the old authority is forgotten", explain=webhook.tails)
            until(lambda: not first_keys & registration_keys(no_keys), "the old key is", explain=webhook.tails)
            after = progress.injected
            until(lambda: progress.injected > after + 50, "pods are created")
        assert webhook.balancer.turned_away == 0, webhook.tails()
        progress.assert_none_lost(150)


def certificate(webhook: Webhook, name: str) -> float:
    """When the certificate that a replica serves ends."""
    return webhook.replicas[name].metric("kernelsecret_webhook_certificate_expiry_timestamp_seconds")


def test_a_bundle_that_somebody_takes_away_is_written_again(ready: Cluster) -> None:
    with serving(ready, "mending") as webhook:
        before = authorities(ready)
        patch = json.dumps([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}])
        kind = "mutatingwebhookconfiguration"
        ready.kubectl("patch", kind, WEBHOOK_CONFIGURATION, "--type=json", f"--patch={patch}")

        def mended() -> bool:
            hooks = ready.kubectl.get(kind, WEBHOOK_CONFIGURATION)["webhooks"]
            return all(hook["clientConfig"].get("caBundle") for hook in hooks)

        until(mended, "the bundle is there again", explain=webhook.tails)
        assert authorities(ready) == before


def test_a_later_kubectl_apply_of_the_manifests_keeps_the_bundle(ready: Cluster) -> None:
    with serving(ready, "keeping") as webhook:
        before = authorities(ready)
        webhook.apply()
        assert authorities(ready) == before
        assert injected(ready.core.create_namespaced_pod(NAMESPACE, ASKS, dry_run="All"))
