"""Certificates and keys of the webhook while they change: no admission fails, and whoever trusts is told in time."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from kernelsecret.names import (
    HOST_WEBHOOK,
    KEYS_OBJECT,
    SYSTEM_NAMESPACE,
    TRUST_OBJECT,
    WEBHOOK_CONFIGURATION,
)
from kernelsecret.trust import FIELD_AUTHORITIES, FIELD_REGISTRATION_KEYS
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.keys import (
    authorities,
    keys_published,
    published,
    registration_keys,
    state,
    time_passes,
)
from tests.apiserver.harness.load import creating, is_injected
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.product import configurations
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "trusting"
ASKS = pod("app-", "trust-db")


@pytest.fixture(scope="module")
def trusting(webhook: Webhook) -> Cluster:
    """The cluster, with a namespace that may opt in."""
    webhook.cluster.namespace(NAMESPACE, OPTED_IN)
    webhook.cluster.kubectl.apply(interceptor("trust-db", NAMESPACE))
    return webhook.cluster


def created(cluster: Cluster) -> bool:
    """Whether a pod that asks is injected now."""
    return is_injected(cluster.core.create_namespaced_pod(NAMESPACE, ASKS, dry_run="All"))


def test_two_replicas_that_start_at_once_without_any_keys_agree_on_one_authority(
    webhook: Webhook, trusting: Cluster
) -> None:
    for name in tuple(webhook.replicas):
        webhook.forget(name).process.stop()
    system = trusting.kubectl.within(SYSTEM_NAMESPACE)
    system("delete", f"secret/{KEYS_OBJECT}", f"configmap/{TRUST_OBJECT}")
    before = authorities(trusting)
    webhook.fill(2)
    until(lambda: not before & authorities(trusting), "the new authority is published", explain=webhook.tails)
    assert len(authorities(trusting)) == 1
    for name, replica in webhook.replicas.items():
        context = ssl.create_default_context(cadata=published(trusting)[FIELD_AUTHORITIES])
        with (
            socket.create_connection(("127.0.0.1", replica.port)) as plain,
            context.wrap_socket(plain, server_hostname=HOST_WEBHOOK) as session,
        ):
            assert session.getpeercert(), name
    for _ in range(8):
        assert created(trusting)


def test_agents_are_told_what_the_api_server_is_told(trusting: Cluster) -> None:
    data = published(trusting)
    pems = x509.load_pem_x509_certificates(data[FIELD_AUTHORITIES].encode())
    assert {one.serial_number for one in pems} == authorities(trusting)
    keys = json.loads(data[FIELD_REGISTRATION_KEYS])
    assert [len(base64.b64decode(key["publicKey"])) for key in keys] == [32]


def test_no_private_key_is_anywhere_but_in_the_secret(webhook: Webhook, trusting: Cluster) -> None:
    created(trusting)
    kept = state(trusting)
    pems = [one["pair"]["key"] for one in kept["authorities"]] + [kept["leaf"]["key"]]
    private = [line for pem in pems for line in pem.splitlines() if len(line) > 40]
    private += [one["privateKey"].rstrip("=") for one in kept["signingKeys"]]
    assert len(private) >= 3
    said = json.dumps(published(trusting))
    said += "".join(
        json.dumps(trusting.kubectl.get(thing["kind"], WEBHOOK_CONFIGURATION)) for thing in configurations(trusting)
    )
    for replica in webhook.replicas.values():
        said += replica.process.said() + replica.ask("/metrics")[1] + replica.ask("/readyz")[1]
        said += replica.audit.read_text() + Path(f"/proc/{replica.process.pid}/environ").read_text()
    assert [index for index, value in enumerate(private) if value in said] == []


def test_authority_certificate_and_signing_key_change_while_pods_are_created_and_none_is_lost(
    webhook: Webhook, trusting: Cluster
) -> None:
    away = webhook.balancer.turned_away
    first, first_keys = authorities(trusting), registration_keys(trusting)
    served = {name: certificate(webhook, name) for name in webhook.replicas}
    until(lambda: keys_published(trusting), "the keys are published", explain=webhook.tails)
    with creating(trusting, NAMESPACE, ASKS) as progress:
        # In the middle of its life: a new one is published beside the old one, and not used yet.
        time_passes(trusting, days=183)
        until(
            lambda: len(authorities(trusting)) == 2 and keys_published(trusting),
            "a second authority is published",
            explain=webhook.tails,
        )
        assert first < authorities(trusting)
        assert first_keys < registration_keys(trusting)
        assert {name: certificate(webhook, name) for name in webhook.replicas} == served
        # It was published long enough: it signs the certificate that both replicas serve from now on.
        time_passes(trusting, days=1, minutes=5)
        until(
            lambda: all(certificate(webhook, name) != before for name, before in served.items()),
            "both replicas serve a certificate of the new authority",
            explain=webhook.tails,
        )
        after = progress.injected
        until(lambda: progress.injected > after + 50, "pods are created")
        # Nobody can hold anything any more that the old one signed.
        time_passes(trusting, days=3)
        until(lambda: not first & authorities(trusting), "the old authority is forgotten", explain=webhook.tails)
        until(lambda: not first_keys & registration_keys(trusting), "the old key is", explain=webhook.tails)
        after = progress.injected
        until(lambda: progress.injected > after + 50, "pods are created")
    assert webhook.balancer.turned_away == away, webhook.tails()
    progress.assert_none_lost(150)


def certificate(webhook: Webhook, name: str) -> float:
    """When the certificate that a replica serves ends."""
    return webhook.replicas[name].metric("kernelsecret_webhook_certificate_expiry_timestamp_seconds")


def test_a_bundle_that_somebody_takes_away_is_written_again(webhook: Webhook, trusting: Cluster) -> None:
    before = authorities(trusting)
    patch = json.dumps([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}])
    trusting.kubectl("patch", "mutatingwebhookconfiguration", WEBHOOK_CONFIGURATION, "--type=json", f"--patch={patch}")
    webhook.wait_registered()
    assert authorities(trusting) == before


def test_a_later_kubectl_apply_of_the_manifests_keeps_the_bundle(webhook: Webhook, trusting: Cluster) -> None:
    before = authorities(trusting)
    webhook.apply()
    assert authorities(trusting) == before
    assert created(trusting)
