"""Replicas and API servers that hang, crash, restart and are replaced: what goes on, and what is refused meanwhile."""

from __future__ import annotations

import time

import pytest

from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.load import creating, is_injected
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "outages"
ASKS = pod("app-", "outage-db")
FROZEN_S = 8.0
"""How long the API server hangs: longer than its clients wait for an answer, so that they notice."""


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace that may opt in."""
    webhook.cluster.kubectl.apply(interceptor("outage-db", NAMESPACE))
    return webhook.cluster.namespace(NAMESPACE, OPTED_IN)


@pytest.fixture
def fresh(webhook: Webhook, shop: Kubectl) -> Webhook:
    """The webhook with two replicas again, for a test that breaks them."""
    webhook.fill(2)
    return webhook


def works(cluster: Cluster) -> bool:
    """Whether a pod that asks is injected now."""
    return is_injected(cluster.core.create_namespaced_pod(NAMESPACE, ASKS, dry_run="All"))


def test_while_no_replica_is_there_pods_that_ask_are_refused_and_all_others_are_created(
    fresh: Webhook, shop: Kubectl
) -> None:
    for name in tuple(fresh.replicas):
        fresh.forget(name).process.kill()
    said = shop.refused("create", "-f-", given=ASKS)
    assert "failed calling webhook" in said
    assert "pods.kernelsecret.io" in said
    shop("create", "-f-", given=pod("plain-"))
    shop("create", "-f-", given=pod("opted-out-", "false"))
    # The static rules hold all the same, and say so in their own words.
    forged = pod("forged", annotations={"kernelsecret.io/interceptor": "outage-db"})
    assert "written by admission alone" in shop.refused("create", "-f-", given=forged)
    # Whoever was refused is served as soon as a replica is there again.
    fresh.wait_ready(fresh.start().name)
    shop("create", "-f-", given=ASKS)


def test_replicas_are_replaced_one_by_one_under_load_and_no_pod_is_lost(fresh: Webhook, shop: Kubectl) -> None:
    with creating(fresh.cluster, NAMESPACE, ASKS, threads=8) as progress:
        until(lambda: progress.injected > 20, "pods are created")
        for old in tuple(fresh.replicas):
            fresh.wait_ready(fresh.start().name)
            # As kubelet does it: told to end while the Service still leads there. It leaves by not being ready.
            ending = fresh.replicas[old]
            ending.process.terminate()
            assert ending.process.wait() == 0, ending.process.tail()
            fresh.forget(old)
        after = progress.injected
        until(lambda: progress.injected > after + 20, "pods are created")
    progress.assert_none_lost(60)


def leader(webhook: Webhook) -> str:
    """Wait until one of the replicas that are there leads; its name."""
    return until(
        lambda: name if (name := webhook.leader()) in webhook.replicas else "", "one leads", explain=webhook.tails
    )


def test_when_the_leader_is_killed_the_other_replica_takes_over_with_the_same_authority(
    fresh: Webhook, shop: Kubectl
) -> None:
    first, before = leader(fresh), bundles(fresh)
    fresh.forget(first).process.kill()
    assert leader(fresh) != first
    assert works(fresh.cluster)
    assert bundles(fresh) == before
    assert len(before) == 1


def test_a_leader_that_is_told_to_end_makes_room_for_the_next_at_once(fresh: Webhook, shop: Kubectl) -> None:
    first = leader(fresh)
    ending = fresh.forget(first).process
    ending.terminate()
    # While it still drains, and long before a lease of 15 s would have run out.
    until(lambda: fresh.leader() in fresh.replicas, "the other one leads", deadline_s=8, explain=fresh.tails)
    assert ending.wait() == 0


def test_a_replica_that_hangs_is_left_out_and_pods_are_injected_by_the_other(fresh: Webhook, shop: Kubectl) -> None:
    hanging = next(iter(fresh.replicas.values()))
    hanging.process.pause()
    try:
        until(lambda: fresh.balancer.ready() == set(fresh.replicas) - {hanging.name}, "its probe takes it out")
        # What the API server had opened to it before may still cost it a request or two; then it is as before.
        until(lambda: all(shop.run("create", "-f-", given=ASKS).status == 0 for _ in range(5)), "pods are injected")
    finally:
        hanging.process.resume()
    fresh.wait_ready(hanging.name)


def bundles(webhook: Webhook) -> set[str]:
    """The authorities that the API server is told to trust."""
    found = [
        webhook.cluster.kubectl.get(kind, "kernelsecret")["webhooks"]
        for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration")
    ]
    return {hook["clientConfig"]["caBundle"] for hooks in found for hook in hooks}


def test_each_replica_serves_by_a_certificate_of_the_one_authority(fresh: Webhook, shop: Kubectl) -> None:
    for other in tuple(fresh.replicas):
        fresh.balancer.remove(other)
        for _ in range(3):
            assert works(fresh.cluster)
        fresh.balancer.add(other, fresh.replicas[other].port)
        fresh.wait_ready(other)


def test_an_api_server_that_crashes_and_comes_back_is_followed_again(fresh: Webhook, shop: Kubectl) -> None:
    fresh.cluster.restart_server()
    for replica in fresh.replicas.values():
        assert replica.is_ready()
    assert works(fresh.cluster)
    # The watches are alive again: what is new is known, without the look that comes before a refusal.
    fresh.cluster.kubectl.apply(interceptor("after-crash", NAMESPACE))
    until(
        lambda: all(knows(replica.ask("/metrics")[1], "interceptors") >= 2 for replica in fresh.replicas.values()),
        "the new interceptor is known",
        explain=fresh.tails,
    )
    shop("create", "-f-", given=pod("app-", "after-crash"))


def knows(metrics: str, collection: str) -> float:
    start = f'kernelsecret_webhook_known_objects{{collection="{collection}"}} '
    return next(float(line.removeprefix(start)) for line in metrics.splitlines() if line.startswith(start))


def test_an_api_server_that_hangs_is_waited_for_and_policy_goes_on_afterwards(fresh: Webhook, shop: Kubectl) -> None:
    server = fresh.cluster.server.process
    server.pause()
    try:
        end = time.monotonic() + FROZEN_S
        while time.monotonic() < end:
            for replica in fresh.replicas.values():
                assert replica.is_ready(), replica.process.tail()
                assert replica.ask("/healthz")[0] == 200
            time.sleep(0.2)
    finally:
        server.resume()
    fresh.cluster.server.wait_ready()
    assert works(fresh.cluster)


def test_the_policy_that_is_known_goes_on_while_the_api_server_that_is_watched_is_away(
    fresh: Webhook, shop: Kubectl
) -> None:
    """Two API servers over one etcd: the webhook watches one, which is killed; the other goes on asking it."""
    cluster = fresh.cluster
    with cluster.another_server() as other:
        replica = fresh.start(server=other.url)
        fresh.wait_ready(replica.name)
        for name in set(fresh.replicas) - {replica.name}:
            fresh.forget(name).process.stop()
        assert works(cluster)
        other.process.kill()
        for _ in range(20):
            assert works(cluster)
        assert replica.is_ready()
        # A refusal that only a look at the API server could make certain says how old the view is.
        said = shop.refused("create", "-f-", given=pod("app", "not-known"))
        assert "try again" in said
        other.start()
        other.wait_ready()
        cluster.kubectl.apply(interceptor("made-meanwhile", NAMESPACE))
        until(
            lambda: shop.run("create", "-f-", given=pod("app-", "made-meanwhile")).status == 0,
            "the watch goes on",
            explain=fresh.tails,
        )
        fresh.forget(replica.name).process.stop()
