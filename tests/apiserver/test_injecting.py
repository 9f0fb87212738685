"""Pods that ask, created through the API server: what they become, and what is left as it was."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi

from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_CONTAINERS,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_INTERCEPTOR,
    ATTRIBUTE_INTERCEPTOR,
    DRIVER_NAME,
    LABEL_ENGINE,
    LABEL_INJECTED,
    VOLUME_NAME,
)
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, account, container, interceptor, namespace, pod
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "injecting"
PATH = "/var/run/secrets/db"
PLURAL = ("kernelsecret.io", "v1alpha1", "secretinterceptors")
SELECTS_NONE = {"matchLabels": {"no": "pod"}}
TRIES = 60


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace that may opt in, with one interceptor that selects it."""
    cluster = webhook.cluster
    cluster.kubectl.apply(interceptor("db", NAMESPACE))
    return cluster.namespace(NAMESPACE, OPTED_IN)


def created(kubectl: Kubectl, thing: dict[str, Any], *, dry_run: bool = True) -> dict[str, Any]:
    """The pod as the API server keeps it, or would."""
    words = ["create", "-f-", "-ojson", *(["--dry-run=server"] if dry_run else [])]
    kept: dict[str, Any] = json.loads(kubectl(*words, given=thing))
    return kept


def mounts(thing: dict[str, Any]) -> dict[str, list[str]]:
    """Paths of our volume by container, of all that the pod has."""
    ours = {one["name"] for one in thing["spec"]["volumes"] if one.get("csi", {}).get("driver") == DRIVER_NAME}
    every = [*thing["spec"].get("initContainers", []), *thing["spec"]["containers"]]
    return {
        one["name"]: [mount["mountPath"] for mount in one.get("volumeMounts", []) if mount["name"] in ours]
        for one in every
    }


def our_volumes(thing: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in thing["spec"].get("volumes", []) if one.get("csi", {}).get("driver") == DRIVER_NAME]


def test_a_pod_that_asks_gets_volume_mount_annotations_label_and_place(shop: Kubectl) -> None:
    kept = created(shop, pod("app", "true"))
    assert our_volumes(kept) == [
        {
            "name": VOLUME_NAME,
            "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "db"}},
        }
    ]
    assert mounts(kept) == {"app": [PATH]}
    annotations = kept["metadata"]["annotations"]
    assert annotations[ANNOTATION_INTERCEPTOR] == "db"
    assert annotations[ANNOTATION_CHOSEN_MODE] == "ebpf"
    assert annotations[ANNOTATION_INJECTED_CONTAINERS] == "app"
    assert kept["metadata"]["labels"][LABEL_INJECTED] == "true"
    # plain-1 cannot serve, so the pod is kept away from it.
    terms = kept["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [required] = terms["nodeSelectorTerms"]
    assert [one["key"] for one in required["matchExpressions"]] == [LABEL_ENGINE]


def test_nothing_else_of_the_pod_is_changed(shop: Kubectl) -> None:
    """Compared with the same pod that does not ask."""
    thing = pod(
        "app",
        "true",
        labels={"app": "shop"},
        containers=[container("app", securityContext={"readOnlyRootFilesystem": True}), container("log")],
        volumes=[{"name": "scratch", "emptyDir": {}}],
        nodeSelector={"pool": "iter"},
    )
    plain = copy.deepcopy(thing)
    plain["metadata"]["annotations"] = {"kernelsecret.io/inject": "false"}
    kept, left = created(shop, thing), created(shop, plain)
    ours = {one["name"] for one in our_volumes(kept)}
    kept["spec"]["volumes"] = [one for one in kept["spec"]["volumes"] if one["name"] not in ours]
    for one in kept["spec"]["containers"]:
        one["volumeMounts"] = [mount for mount in one["volumeMounts"] if mount["name"] not in ours]
    kept["metadata"]["labels"].pop(LABEL_INJECTED)
    for spec in (kept["spec"], left["spec"]):
        # The service account's volume has a random name.
        text = str(sorted(one["name"] for one in spec["volumes"] if not one["name"].startswith("kube-api-access")))
        assert text == "['scratch']"
        spec.pop("volumes")
        for one in spec["containers"]:
            one["volumeMounts"] = len(one["volumeMounts"])
    assert kept["spec"] == left["spec"]
    assert kept["metadata"]["labels"] == left["metadata"]["labels"]


def test_init_containers_and_native_sidecars_get_it_too_and_known_proxies_do_not(shop: Kubectl) -> None:
    thing = pod(
        "app",
        "db",
        containers=[container("app"), container("istio-proxy")],
        initContainers=[container("migrate"), container("cache", restartPolicy="Always"), container("istio-init")],
    )
    found = mounts(created(shop, thing))
    assert found == {"app": [PATH], "migrate": [PATH], "cache": [PATH], "istio-proxy": [], "istio-init": []}


def test_the_pod_may_narrow_who_gets_it(shop: Kubectl) -> None:
    thing = pod(
        "app", "true", annotations={ANNOTATION_CONTAINERS: "app"}, containers=[container("app"), container("other")]
    )
    assert mounts(created(shop, thing)) == {"app": [PATH], "other": []}


def test_names_made_by_the_server_are_injected_too(shop: Kubectl) -> None:
    kept = created(shop, pod("app-", "true"), dry_run=False)
    assert kept["metadata"]["name"].startswith("app-")
    assert mounts(kept) == {"app": [PATH]}


def test_a_pod_without_a_service_account_volume_or_any_other_is_injected(shop: Kubectl) -> None:
    kept = created(shop, pod("app", "true", automountServiceAccountToken=False))
    assert [one["name"] for one in kept["spec"]["volumes"]] == [VOLUME_NAME]


def test_another_volume_of_our_name_is_left_to_its_owner(shop: Kubectl) -> None:
    thing = pod(
        "app",
        "true",
        volumes=[{"name": VOLUME_NAME, "emptyDir": {}}],
        containers=[container("app", volumeMounts=[{"name": VOLUME_NAME, "mountPath": "/data"}])],
    )
    kept = created(shop, thing)
    assert [one["name"] for one in our_volumes(kept)] == [f"{VOLUME_NAME}-2"]
    assert mounts(kept) == {"app": [PATH]}


def test_a_volume_written_by_hand_is_used(shop: Kubectl) -> None:
    volume = {
        "name": "mine",
        "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "db"}},
    }
    thing = pod("app", "db", volumes=[volume])
    kept = created(shop, thing)
    assert [one["name"] for one in our_volumes(kept)] == ["mine"]
    assert mounts(kept) == {"app": [PATH]}


def test_a_mount_by_subpath_is_allowed_with_a_warning_that_kubectl_shows(shop: Kubectl) -> None:
    volume = {
        "name": "mine",
        "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "db"}},
    }
    mount = {"name": "mine", "mountPath": "/etc/password", "subPath": "password", "readOnly": True}
    thing = pod("app", "db", volumes=[volume], containers=[container("app", volumeMounts=[mount])])
    ran = shop.run("create", "-f-", "--dry-run=server", given=thing)
    assert ran.status == 0, ran.err
    assert "Warning" in ran.err
    assert "subPath" in ran.err


def test_an_injected_pod_created_again_from_what_kubectl_shows_is_the_same(shop: Kubectl) -> None:
    """`kubectl get -o yaml | kubectl create -f -`, as people and backups do: nothing is added twice."""
    shop("create", "-f-", given=pod("original", "true"))
    kept = shop.get("pod/original")
    again = copy.deepcopy(kept)
    again["metadata"] = {
        "name": "copy",
        "labels": kept["metadata"]["labels"],
        "annotations": kept["metadata"]["annotations"],
    }
    second = created(shop, again)
    assert second["spec"] == kept["spec"]
    assert second["metadata"]["annotations"] == kept["metadata"]["annotations"]


def test_a_dry_run_is_injected_and_leaves_no_trace(webhook: Webhook, shop: Kubectl) -> None:
    before = shop("get", "pods", "-oname")
    assert mounts(created(shop, pod("never", "true"))) == {"app": [PATH]}
    assert shop("get", "pods", "-oname") == before


@pytest.mark.parametrize("inject", [None, "false"])
def test_a_pod_that_does_not_ask_is_left_alone(shop: Kubectl, inject: str | None) -> None:
    kept = created(shop, pod("plain", inject))
    assert our_volumes(kept) == []
    assert LABEL_INJECTED not in kept["metadata"].get("labels", {})


def test_unrelated_pods_never_reach_the_webhook(webhook: Webhook, shop: Kubectl) -> None:
    def reviews() -> float:
        return sum(webhook.metric("kernelsecret_webhook_reviews_total", door=door) for door in ("mutate", "validate"))

    before = reviews()
    for number in range(5):
        created(shop, pod(f"plain-{number}"))
    assert reviews() == before
    created(shop, pod("app", "true"))
    assert reviews() == before + 2


def test_a_namespace_an_interceptor_and_a_pod_in_one_file_are_applied_at_once(webhook: Webhook) -> None:
    name = "in-one-file"
    thing = pod("app", name)
    thing["metadata"]["namespace"] = name
    webhook.cluster.kubectl.apply(namespace(name, OPTED_IN), account("default", name), interceptor(name, name), thing)
    kept = webhook.cluster.kubectl.get("pod/app", f"--namespace={name}")
    assert mounts(kept) == {"app": [f"/var/run/secrets/{name}"]}


def test_no_pod_is_refused_because_the_webhook_has_not_heard_yet_of_what_was_made_a_moment_ago(
    webhook: Webhook, shop: Kubectl
) -> None:
    """As a controller does it, without the time that kubectl takes: now and then the watch is the slower one."""
    cluster = webhook.cluster
    interceptors = CustomObjectsApi(cluster.api)
    for number in range(TRIES):
        name = f"moment-{number}"
        interceptors.create_cluster_custom_object(*PLURAL, interceptor(name, NAMESPACE, podSelector=SELECTS_NONE))
        # Selected by a change, which is as new as can be.
        interceptors.patch_cluster_custom_object(*PLURAL, name, {"spec": {"podSelector": None}})
        cluster.core.create_namespaced_pod(NAMESPACE, pod("app-", name), dry_run="All")
        interceptors.delete_cluster_custom_object(*PLURAL, name)


def test_a_label_put_on_a_namespace_counts_at_once_and_so_does_its_loss(webhook: Webhook) -> None:
    cluster: Cluster = webhook.cluster
    kubectl = cluster.namespace("labelled-later")
    cluster.kubectl.apply(interceptor("labelled-later", "labelled-later"))
    for number in range(3):
        cluster.kubectl("label", "namespace/labelled-later", "kernelsecret.io/inject=enabled")
        assert our_volumes(created(kubectl, pod(f"app-{number}", "labelled-later")))
        cluster.kubectl("label", "namespace/labelled-later", "kernelsecret.io/inject-")
        said = kubectl.refused("create", "-f-", "--dry-run=server", given=pod("app", "labelled-later"))
        assert "kernelsecret.io/inject=enabled" in said


def test_what_was_done_is_audited_with_the_pod_and_no_secret(webhook: Webhook, shop: Kubectl) -> None:
    created(shop, pod("audited", "true"), dry_run=False)
    found = {(one["event"], one["interceptor"], one["dry_run"]) for one in webhook.audited("audited")}
    assert found == {("injected", "db", False)}
