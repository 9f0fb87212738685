"""Where injected pods run: the real scheduler binds them to nodes that can serve, or lets them wait and says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kernelsecret.names import ANNOTATION_CHOSEN_MODE, LABEL_ENGINE
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "placing"
NEW_POOL = {"pool": "new"}


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace with an interceptor that prefers and one that requires."""
    webhook.cluster.kubectl.apply(
        interceptor("prefers", NAMESPACE),
        interceptor("requires", NAMESPACE, delivery={"placement": "require"}),
        interceptor("takes-tmpfs", NAMESPACE, access={"unenforced": "allow"}),
    )
    return webhook.cluster.namespace(NAMESPACE, OPTED_IN)


@pytest.fixture
def new_node(webhook: Webhook) -> Iterator[str]:
    """A node without an agent, in a pool of its own."""
    webhook.cluster.node("new-1", NEW_POOL)
    yield "new-1"
    webhook.cluster.remove_node("new-1")


def place(cluster: Cluster, name: str, thing: dict[str, Any]) -> str:
    cluster.kubectl.within(NAMESPACE)("create", "-f-", given=thing)
    return cluster.bound(NAMESPACE, name)


def unschedulable(cluster: Cluster, name: str) -> str:
    """Why the scheduler does not place a pod; empty while it has not said."""
    conditions = cluster.core.read_namespaced_pod(name, NAMESPACE).status.conditions or []
    return next((one.message for one in conditions if one.type == "PodScheduled" and one.status == "False"), "")


def test_a_pod_is_kept_away_from_nodes_that_cannot_serve(webhook: Webhook, shop: Kubectl) -> None:
    nodes = {place(webhook.cluster, f"spread-{number}", pod(f"spread-{number}", "prefers")) for number in range(6)}
    assert nodes <= {"iter-1", "iter-2"}


def test_a_pod_that_is_bound_by_hand_through_the_legacy_endpoint_stays_injected(
    webhook: Webhook, shop: Kubectl
) -> None:
    shop("create", "-f-", given=pod("by-hand", "prefers", schedulerName="nobody"))
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "by-hand"},
        "target": {"kind": "Node", "name": "iter-2"},
    }
    shop("create", f"--raw=/api/v1/namespaces/{NAMESPACE}/bindings", "-f-", given=binding)
    assert webhook.cluster.bound(NAMESPACE, "by-hand") == "iter-2"


def test_a_pod_that_names_a_node_that_can_is_taken_with_that_nodes_mode(webhook: Webhook, shop: Kubectl) -> None:
    shop("create", "-f-", given=pod("named", "prefers", nodeName="iter-1"))
    kept = shop.get("pod/named")
    assert kept["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "ebpf"
    assert "affinity" not in kept["spec"]


def test_where_placement_is_required_a_pod_waits_for_a_node_that_can_and_the_scheduler_says_so(
    webhook: Webhook, shop: Kubectl, new_node: str
) -> None:
    cluster = webhook.cluster
    shop("create", "-f-", given=pod("waits", "requires", nodeSelector=NEW_POOL))
    said = until(
        lambda: unschedulable(cluster, "waits"), "the scheduler says why", explain=lambda: cluster.events(NAMESPACE)
    )
    assert "affinity" in said
    cluster.kubectl("label", f"node/{new_node}", f"{LABEL_ENGINE}=iter")
    assert cluster.bound(NAMESPACE, "waits") == new_node


def test_where_it_is_preferred_a_pod_that_no_node_can_serve_is_refused_until_one_can(
    webhook: Webhook, shop: Kubectl, new_node: str
) -> None:
    thing = pod("prefers-new", "prefers", nodeSelector=NEW_POOL)
    said = shop.refused("create", "-f-", given=thing)
    assert LABEL_ENGINE in said
    assert "placement: require" in said
    webhook.cluster.kubectl("label", f"node/{new_node}", f"{LABEL_ENGINE}=iter")
    # At once: a refusal that a late view could explain is not given before a look at the node itself.
    assert place(webhook.cluster, "prefers-new", thing) == new_node


def test_a_node_that_serves_by_tmpfs_is_used_only_where_the_interceptor_waives_the_rule(
    webhook: Webhook, shop: Kubectl, new_node: str
) -> None:
    webhook.cluster.kubectl("label", f"node/{new_node}", f"{LABEL_ENGINE}=tmpfs")
    shop.refused("create", "-f-", given=pod("strict", "prefers", nodeSelector=NEW_POOL))
    thing = pod("waived", "takes-tmpfs", nodeSelector=NEW_POOL)
    assert place(webhook.cluster, "waived", thing) == new_node


def test_a_taint_that_a_pod_does_not_tolerate_takes_a_node_out_of_the_choice(
    webhook: Webhook, shop: Kubectl, new_node: str
) -> None:
    cluster = webhook.cluster
    cluster.kubectl("label", f"node/{new_node}", f"{LABEL_ENGINE}=iter")
    cluster.node("new-2", NEW_POOL, taints=[{"key": "spot", "value": "true", "effect": "NoSchedule"}])
    try:
        kept = shop(
            "create", "-f-", "--dry-run=server", "-ojson", given=pod("no-spot", "prefers", nodeSelector=NEW_POOL)
        )
        # The only node left can serve, so nothing has to be asked for.
        assert '"affinity"' not in kept
        tolerant = pod("spot", "prefers", nodeSelector=NEW_POOL, tolerations=[{"key": "spot", "operator": "Exists"}])
        kept = shop("create", "-f-", "--dry-run=server", "-ojson", given=tolerant)
        assert '"affinity"' in kept
    finally:
        cluster.remove_node("new-2")
