"""What our own accounts can do: RBAC, and the policies that hold them to one node, one label, single fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import config
from kubernetes.client import CustomObjectsApi

from kernelsecret.names import (
    ACCOUNT_AGENT,
    ACCOUNT_WEBHOOK,
    FINALIZER_IN_USE,
    KEYS_OBJECT,
    LABEL_ENGINE,
    LABEL_IDMAPPED,
    LEASE_WEBHOOK,
    NOTICES_OBJECT,
    PUSH_KEYS_OBJECT,
    SYSTEM_NAMESPACE,
    TRUST_OBJECT,
    WEBHOOK_CONFIGURATION,
)
from tests.apiserver.harness.certificates import kubeconfig
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.nodes import agent_pod
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.parts import part
from tests.apiserver.harness.product import away

NODE = "accounts-1"
PLURAL = ("kernelsecret.io", "v1alpha1", "secretinterceptors")


def as_account(cluster: Cluster, account: str, *, pod: str = "") -> Kubectl:
    """kubectl with a token of an account, bound to one of its pods where `pod` names it."""
    program = part("kubectl")
    assert program is not None
    path: Path = cluster.folder / f"accounts-{account}-{pod or 'free'}.json"
    token = cluster.token(SYSTEM_NAMESPACE, account, pod=pod)
    made = kubeconfig(path, cluster.server.url, cluster.certificates.authority, token=token, namespace=SYSTEM_NAMESPACE)
    return Kubectl(program, made, cluster.folder)


@pytest.fixture(scope="module")
def alone(installed: Cluster) -> Iterator[Cluster]:
    """The cluster with two nodes and an interceptor, while no webhook is registered."""
    with away(installed):
        for name in (NODE, "accounts-2"):
            installed.node(name, {"tier": "db"})
        installed.kubectl.apply(interceptor("accounts", "nowhere"))
        yield installed
        installed.kubectl("delete", "secretinterceptor/accounts")
        for name in (NODE, "accounts-2"):
            installed.remove_node(name)


@pytest.fixture(scope="module")
def agent(alone: Cluster) -> Iterator[Kubectl]:
    """kubectl with the token that kubelet would give the agent of the first node."""
    name = agent_pod(alone, NODE)
    yield as_account(alone, ACCOUNT_AGENT, pod=name)
    alone.remove_pod(SYSTEM_NAMESPACE, name)


@pytest.fixture(scope="module")
def webhook(alone: Cluster) -> Kubectl:
    """kubectl as the webhook."""
    return as_account(alone, ACCOUNT_WEBHOOK)


def patched(thing: str, change: dict[str, Any]) -> list[str]:
    return ["patch", thing, "--type=merge", f"--patch={json.dumps(change)}"]


def labelled(name: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"labels": {name: value}}}


def test_an_agent_labels_its_own_node_with_its_engine_and_takes_that_away(agent: Kubectl) -> None:
    for value in ("iter", "rewrite", "tmpfs", None):
        agent(*patched(f"node/{NODE}", labelled(LABEL_ENGINE, value)))


def test_an_agent_cannot_label_another_node(agent: Kubectl) -> None:
    said = agent.refused(*patched("node/accounts-2", labelled(LABEL_ENGINE, "iter")))
    assert "an agent changes its own node only" in said


def test_a_token_that_is_bound_to_no_node_labels_none(alone: Cluster) -> None:
    free = as_account(alone, ACCOUNT_AGENT)
    assert "an agent changes its own node only" in free.refused(
        *patched(f"node/{NODE}", labelled(LABEL_ENGINE, "iter"))
    )


@pytest.mark.parametrize(
    "change",
    [
        labelled(LABEL_ENGINE, "fast"),
        labelled(LABEL_IDMAPPED, "iter"),
        labelled("tier", "web"),
        labelled("tier", None),
        labelled("new", "1"),
        {"metadata": {"annotations": {"a": "b"}}},
        {"metadata": {"finalizers": ["example.com/hold"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "y"}]}},
        {"spec": {"unschedulable": True}},
        {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}},
    ],
)
def test_an_agent_changes_nothing_else_of_its_node(agent: Kubectl, change: dict[str, Any]) -> None:
    said = agent.refused(*patched(f"node/{NODE}", change))
    assert "'kernelsecret-agent-node'" in said
    assert ": an agent " in said


@pytest.mark.parametrize("value", ["tmpfs", "none", None])
def test_an_agent_says_which_engine_serves_a_pod_with_a_user_namespace(agent: Kubectl, value: str | None) -> None:
    agent(*patched(f"node/{NODE}", labelled(LABEL_IDMAPPED, value)))


def can(kubectl: Kubectl, *words: str) -> bool:
    return kubectl.run("auth", "can-i", *words).out.strip() == "yes"


def test_an_agent_reads_what_it_decides_by_and_no_secret(agent: Kubectl) -> None:
    for words in (("list", "pods", "-A"), ("watch", "namespaces"), ("get", "secretinterceptors")):
        assert can(agent, *words)
    assert can(agent, "watch", f"configmaps/{TRUST_OBJECT}")
    assert can(agent, "create", "tokenreviews.authentication.k8s.io")
    assert can(agent, "watch", f"configmaps/{NOTICES_OBJECT}")
    for never in (
        ("get", "secrets", "-A"),
        ("get", f"secrets/{KEYS_OBJECT}"),
        ("get", f"secrets/{PUSH_KEYS_OBJECT}"),
        ("update", f"configmaps/{NOTICES_OBJECT}"),
        ("list", "configmaps"),
        ("patch", "secretinterceptors"),
        ("patch", "pods", "-A"),
        ("create", "pods/exec", "-A"),
        ("patch", "nodes", "--subresource=status"),
        ("create", "serviceaccounts", "--subresource=token", "-A"),
        ("create", "subjectaccessreviews.authorization.k8s.io"),
        ("impersonate", "serviceaccounts", "-A"),
    ):
        assert not can(agent, *never), never


def test_the_webhook_reads_no_secret_but_its_own(webhook: Kubectl) -> None:
    assert can(webhook, "get", f"secrets/{KEYS_OBJECT}")
    assert can(webhook, "watch", f"secrets/{PUSH_KEYS_OBJECT}")
    assert can(webhook, "update", f"configmaps/{NOTICES_OBJECT}")
    assert can(webhook, "update", f"mutatingwebhookconfigurations/{WEBHOOK_CONFIGURATION}")
    for words in (
        ("list", "secrets"),
        ("get", "secrets", "-A"),
        ("update", f"secrets/{PUSH_KEYS_OBJECT}"),
        ("update", "mutatingwebhookconfigurations/other"),
        ("create", "mutatingwebhookconfigurations"),
        ("delete", "secretinterceptors"),
        ("patch", "pods", "-A"),
    ):
        assert not can(webhook, *words), words


def test_the_webhook_sets_finalizer_and_status_of_an_interceptor_but_not_its_spec(
    alone: Cluster, webhook: Kubectl
) -> None:
    thing = "secretinterceptor/accounts"
    webhook(*patched(thing, {"metadata": {"finalizers": [FINALIZER_IN_USE]}}))
    try:
        assert "only a cluster admin may" in webhook.refused(*patched(thing, {"spec": {"access": {"from": "any"}}}))
        # kubectl would read the subresource first; the webhook only writes it.
        untyped: Any = config
        file = str(alone.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_WEBHOOK))
        with untyped.new_client_from_config(config_file=file) as api:
            CustomObjectsApi(api).patch_cluster_custom_object_status(*PLURAL, "accounts", {"status": {"pods": 2}})
        assert alone.kubectl.get(thing)["status"] == {"pods": 2, "volumes": 0}
    finally:
        webhook(*patched(thing, {"metadata": {"finalizers": None}}))


def made(kind: str, name: str, **more: Any) -> dict[str, Any]:
    version = "coordination.k8s.io/v1" if kind == "Lease" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **more}


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Secret", KEYS_OBJECT), ("ConfigMap", TRUST_OBJECT), ("ConfigMap", NOTICES_OBJECT), ("Lease", LEASE_WEBHOOK)],
)
def test_the_webhook_creates_what_it_keeps_and_nothing_beside(webhook: Kubectl, kind: str, name: str) -> None:
    tried = webhook.run("create", "-f-", "--dry-run=server", given=made(kind, name))
    assert tried.status == 0 or "already exists" in tried.err
    said = webhook.refused("create", "-f-", "--dry-run=server", given=made(kind, "other"))
    assert "creates its own Secret, ConfigMaps and Lease only" in said


def test_the_webhook_cannot_make_a_token_of_another_account(webhook: Kubectl) -> None:
    token = made("Secret", KEYS_OBJECT, type="kubernetes.io/service-account-token")
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": ACCOUNT_AGENT}
    said = webhook.refused("create", "-f-", "--dry-run=server", given=token)
    assert "creates its own Secret, ConfigMaps and Lease only" in said
