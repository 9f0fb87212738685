"""What an interceptor's status says while pods come and go, and how it ends: as kubectl shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernelsecret.names import FINALIZER_IN_USE, LABEL_INJECT
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "living"


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace that may opt in."""
    return webhook.cluster.namespace(NAMESPACE, OPTED_IN)


def wait(webhook: Webhook, name: str, condition: str) -> None:
    """`kubectl wait`, as a script of a user has it."""
    ran = webhook.cluster.kubectl.run("wait", f"si/{name}", f"--for=condition={condition}", "--timeout=30s")
    assert ran.status == 0, f"{ran.err}\n{webhook.cluster.kubectl('get', f'si/{name}', '-oyaml')}\n{webhook.tails()}"


def condition(webhook: Webhook, name: str, kind: str) -> dict[str, Any]:
    conditions = webhook.cluster.kubectl.get("si", name).get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def told(webhook: Webhook, name: str, kind: str, reason: str) -> str:
    """Wait until a condition has this reason; its message."""
    until(
        lambda: condition(webhook, name, kind).get("reason") == reason,
        f"{kind} is {reason}",
        explain=lambda: str(webhook.cluster.kubectl("get", "si", name, "-oyaml")) + webhook.tails(),
    )
    return str(condition(webhook, name, kind)["message"])


def test_a_new_interceptor_is_accepted_and_ready_and_kubectl_wait_sees_it(webhook: Webhook, shop: Kubectl) -> None:
    webhook.cluster.kubectl.apply(interceptor("new", NAMESPACE))
    for kind in ("Accepted", "Ready", "InUse=false", "PodsUnselected=false"):
        wait(webhook, "new", kind)
    row = webhook.cluster.kubectl("get", "si", "new").splitlines()[1].split()
    assert row[3:6] == ["0", "True", "True"]


def test_pods_that_hold_it_are_counted_and_hold_its_finalizer(webhook: Webhook, shop: Kubectl) -> None:
    webhook.cluster.kubectl.apply(interceptor("counted", NAMESPACE))
    for number in range(3):
        shop("create", "-f-", given=pod(f"counted-{number}", "counted"))
    assert "3 pods in 1 namespace" in until(
        lambda: message if "3 pods" in (message := condition(webhook, "counted", "InUse").get("message", "")) else "",
        "three pods are counted",
        explain=webhook.tails,
    )
    kept = webhook.cluster.kubectl.get("si", "counted")
    assert FINALIZER_IN_USE in kept["metadata"]["finalizers"]
    assert (kept["status"]["pods"], kept["status"]["volumes"]) == (3, 3)
    for number in range(3):
        webhook.cluster.remove_pod(NAMESPACE, f"counted-{number}")
    told(webhook, "counted", "InUse", "NoPods")


def test_a_deleted_interceptor_stays_in_sight_until_its_last_pod_ends(webhook: Webhook, shop: Kubectl) -> None:
    webhook.cluster.kubectl.apply(interceptor("ending", NAMESPACE))
    shop("create", "-f-", given=pod("last", "ending"))
    told(webhook, "ending", "InUse", "PodsHoldIt")
    webhook.cluster.kubectl("delete", "si", "ending", "--wait=false")
    assert "last value" in told(webhook, "ending", "PodsUnselected", "KeepsLastValue")
    assert "being deleted" in shop.refused("create", "-f-", given=pod("late", "ending"))
    webhook.cluster.remove_pod(NAMESPACE, "last")
    until(lambda: webhook.cluster.kubectl.run("get", "si", "ending").status != 0, "it is gone", explain=webhook.tails)


def test_an_interceptor_that_nobody_uses_is_deleted_at_once(webhook: Webhook) -> None:
    webhook.cluster.kubectl.apply(interceptor("unused", NAMESPACE))
    wait(webhook, "unused", "Accepted")
    webhook.cluster.kubectl("delete", "si", "unused", "--timeout=10s")


@pytest.mark.parametrize(("on_unavailable", "reason"), [("keep", "KeepsLastValue"), ("refuse", "RefusesReads")])
def test_taking_the_namespaces_label_away_shows_in_the_conditions_what_running_pods_meet(
    webhook: Webhook, on_unavailable: str, reason: str
) -> None:
    name = f"taken-{on_unavailable}"
    kubectl = webhook.cluster.namespace(name, OPTED_IN)
    webhook.cluster.kubectl.apply(interceptor(name, name, delivery={"onUnavailable": on_unavailable}))
    kubectl("create", "-f-", given=pod("runs", name))
    told(webhook, name, "PodsUnselected", "AllGiven")
    webhook.cluster.kubectl("label", f"namespace/{name}", f"{LABEL_INJECT}-")
    assert "1 running pod is no longer given it" in told(webhook, name, "PodsUnselected", reason)
    webhook.cluster.kubectl("label", f"namespace/{name}", f"{LABEL_INJECT}=enabled")
    told(webhook, name, "PodsUnselected", "AllGiven")


def test_a_selector_that_leaves_running_pods_out_shows_in_the_conditions(webhook: Webhook, shop: Kubectl) -> None:
    webhook.cluster.kubectl.apply(interceptor("narrowed", NAMESPACE))
    shop("create", "-f-", given=pod("left-out", "narrowed"))
    told(webhook, "narrowed", "InUse", "PodsHoldIt")
    patch = json.dumps({"spec": {"podSelector": {"matchLabels": {"app": "other"}}}})
    webhook.cluster.kubectl("patch", "si", "narrowed", "--type=merge", f"--patch={patch}")
    told(webhook, "narrowed", "PodsUnselected", "KeepsLastValue")
    assert condition(webhook, "narrowed", "PodsUnselected")["observedGeneration"] == 2


def test_an_interceptor_that_no_node_can_serve_says_so(webhook: Webhook) -> None:
    """iter-1 and iter-2 can serve everything that this version can, so their agents are taken away for a moment."""
    cluster = webhook.cluster
    cluster.kubectl.apply(interceptor("homeless", NAMESPACE))
    wait(webhook, "homeless", "Ready")
    try:
        cluster.kubectl("label", "nodes", "-lpool=iter", "kernelsecret.io/engine-")
        assert "look at the agents" in told(webhook, "homeless", "Ready", "NoNodeCanServe")
    finally:
        cluster.kubectl("label", "nodes", "-lpool=iter", "kernelsecret.io/engine=iter")
    told(webhook, "homeless", "Ready", "NodesCanServe")


def test_the_status_of_an_interceptor_can_be_lost_and_is_written_again(webhook: Webhook) -> None:
    webhook.cluster.kubectl.apply(interceptor("forgotten", NAMESPACE))
    wait(webhook, "forgotten", "Accepted")
    patch = json.dumps({"status": {"conditions": [], "pods": 7}})
    webhook.cluster.kubectl("patch", "si", "forgotten", "--subresource=status", "--type=merge", f"--patch={patch}")
    told(webhook, "forgotten", "InUse", "NoPods")
    assert webhook.cluster.kubectl.get("si", "forgotten")["status"]["pods"] == 0
