"""What is refused, and in which words: as kubectl shows them, with the field, the reason and the remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernelsecret.names import (
    ANNOTATION_CONTAINERS,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_MODE,
    ATTRIBUTE_INTERCEPTOR,
    DRIVER_NAME,
    LABEL_INJECTED,
)
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "refusing"


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """kubectl in a namespace with several interceptors: `db` and `db-too` select all its pods, others do not."""
    cluster = webhook.cluster
    only_api = {"podSelector": {"matchLabels": {"app": "api"}}}
    cluster.kubectl.apply(
        interceptor("db", NAMESPACE),
        interceptor("db-too", NAMESPACE),
        interceptor("elsewhere", "somewhere-else"),
        interceptor("api-only", NAMESPACE, **only_api),
        interceptor("later", NAMESPACE, delivery={"modes": ["ebpf", "preload"]}),
        interceptor("two", NAMESPACE, delivery={"containers": ["app", "migrate"]}),
    )
    return cluster.namespace(NAMESPACE, OPTED_IN)


def by_hand(interceptor_name: str, **csi: Any) -> dict[str, Any]:
    attributes = {ATTRIBUTE_INTERCEPTOR: interceptor_name}
    return {"name": "mine", "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": attributes, **csi}}


def secret(source: dict[str, Any], *files: str) -> dict[str, Any]:
    return {"name": "a", "source": source, "files": [{"path": name, "key": name} for name in files]}


TAKEN = container("app", volumeMounts=[{"name": "data", "mountPath": "/run/secrets/db/x"}])
DATA = {"name": "data", "emptyDir": {}}

REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("no such interceptor", pod("app", "nothing"), ["kernelsecret.io/inject", "'nothing'", "kubectl get"]),
    ("several select it", pod("app", "true"), ["db", "db-too", "write the name of one of them"]),
    ("another namespace's", pod("app", "elsewhere"), ["namespaceSelector", "'refusing'"]),
    ("another pod's", pod("app", "api-only"), ["podSelector", "labels"]),
    ("windows", pod("app", "db", os={"name": "windows"}), ["spec.os.name", "Linux"]),
    ("a user namespace", pod("app", "db", hostUsers=False), ["spec.hostUsers", "bpffs"]),
    ("a mode not allowed", pod("app", "db", annotations={ANNOTATION_MODE: "preload"}), [ANNOTATION_MODE, "auto"]),
    ("a mode not waived", pod("app", "later", annotations={ANNOTATION_MODE: "preload"}), ["preload", "unenforced"]),
    ("a container too few", pod("app", "two"), ["delivery.containers", "migrate"]),
    (
        "more containers than the interceptor gives",
        pod(
            "app",
            "two",
            annotations={ANNOTATION_CONTAINERS: "log"},
            containers=[container("app"), container("migrate"), container("log")],
        ),
        [ANNOTATION_CONTAINERS, "'log'", "only narrow"],
    ),
    ("the path is taken", pod("app", "db", containers=[TAKEN], volumes=[DATA]), ["mountPath", "'app'", "'data'"]),
    ("a volume of another interceptor", pod("app", "db", volumes=[by_hand("db-too")]), ["spec.volumes[", "'db-too'"]),
    ("a volume to write to", pod("app", "db", volumes=[by_hand("db", readOnly=False)]), ["readOnly", "true"]),
    ("no node can", pod("app", "db", nodeSelector={"pool": "plain"}), ["kernelsecret.io/engine", "placement"]),
    ("a node that cannot", pod("app", "db", nodeName="plain-1"), ["spec.nodeName", "'plain-1'"]),
    ("a node that is not there", pod("app", "db", nodeName="nowhere"), ["spec.nodeName", "'nowhere'"]),
    ("forged", pod("app", annotations={ANNOTATION_INTERCEPTOR: "db"}), [ANNOTATION_INTERCEPTOR, "admission alone"]),
    (
        "the driver without asking",
        pod("app", volumes=[by_hand("db")]),
        ["spec.volumes[0].csi.driver", "annotate the pod"],
    ),
]


@pytest.mark.parametrize(("thing", "said"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_refusal_names_field_and_remedy(shop: Kubectl, thing: dict[str, Any], said: list[str]) -> None:
    error = shop.refused("create", "-f-", "--dry-run=server", given=thing)
    assert [word for word in said if word not in error] == [], error
    # The static rules come first, as the API server's own policy; the others are the webhook's.
    assert "denied request" in error or "denied the request" in error
    assert len(error.splitlines()) == 1, error


def test_a_namespace_without_the_label_is_named_with_the_command_that_labels_it(webhook: Webhook) -> None:
    kubectl = webhook.cluster.namespace("refusing-unlabelled")
    said = kubectl.refused("create", "-f-", given=pod("app", "db"))
    assert "kubectl label namespace refusing-unlabelled kernelsecret.io/inject=enabled" in said


@pytest.mark.parametrize(
    ("field", "change"),
    [
        (
            "spec.secrets[0].files[0].template",
            {"secrets": [secret({"file": {"path": "a"}}) | {"files": [{"path": "a", "template": "{{ a | upper }}"}]}]},
        ),
        ("spec.delivery.modes", {"delivery": {"modes": ["preload"]}}),
        ("spec.delivery.modes", {"delivery": {"modes": ["preload", "ebpf"], "placement": "require"}}),
        (
            "spec.limits.pod.files",
            {"limits": {"pod": {"files": 1}}, "secrets": [secret({"file": {"path": "a"}}, "a", "b")]},
        ),
    ],
)
def test_an_interceptor_that_cannot_work_is_refused(webhook: Webhook, field: str, change: dict[str, Any]) -> None:
    said = webhook.cluster.kubectl.refused("create", "-f-", given=interceptor("cannot-work", NAMESPACE, **change))
    assert field in said
    assert "denied the request" in said


def test_an_interceptor_that_works_with_a_caveat_is_taken_with_a_warning(webhook: Webhook) -> None:
    thing = interceptor("caveat", "nowhere", delivery={"modes": ["preload", "ebpf"]})
    ran = webhook.cluster.kubectl.run("create", "-f-", "--dry-run=server", given=thing)
    assert ran.status == 0, ran.err
    assert "Warning" in ran.err
    assert "preload" in ran.err


def test_what_admission_wrote_cannot_be_patched_between_creation_and_binding(shop: Kubectl) -> None:
    shop("create", "-f-", given=pod("unbound", "db", schedulingGates=[{"name": "example.com/wait"}]))
    for patch in (
        {"annotations": {ANNOTATION_INTERCEPTOR: "db-too"}},
        {"annotations": {ANNOTATION_INJECTED_CONTAINERS: "app,other"}},
        {"annotations": {"kernelsecret.io/inject": "db-too"}},
        {"labels": {LABEL_INJECTED: None}},
    ):
        said = shop.refused("patch", "pod/unbound", "--type=merge", f"--patch={json.dumps({'metadata': patch})}")
        assert "kernelsecret.io/" in said


def test_kubectl_debug_in_a_pod_that_holds_secrets_is_refused_and_the_interceptor_may_allow_it(
    webhook: Webhook, shop: Kubectl
) -> None:
    webhook.cluster.kubectl.apply(interceptor("lenient", NAMESPACE, access={"ephemeralContainers": "allow"}))
    shop("create", "-f-", given=pod("closed", "db"))
    shop("create", "-f-", given=pod("open", "lenient"))
    debug = ("--image=example.com/debug:1", "--container=debugger", "--", "sh")
    said = shop.refused("debug", "pod/closed", *debug)
    assert "spec.ephemeralContainers" in said
    assert "db" in said
    shop("debug", "pod/open", *debug)


def test_an_opt_in_that_is_undone_by_another_webhook_is_refused(shop: Kubectl) -> None:
    """A pod as it would be had somebody taken our volume away after us: the annotations alone do not pass."""
    thing = pod("app", "db", annotations={ANNOTATION_INTERCEPTOR: "db", ANNOTATION_INJECTED_CONTAINERS: "app"})
    kept = json.loads(shop("create", "-f-", "--dry-run=server", "-ojson", given=thing))
    # Admission mends what it can: the claim is replaced by the truth.
    assert any(one.get("csi", {}).get("driver") == DRIVER_NAME for one in kept["spec"]["volumes"])


def test_refusals_are_counted_and_audited_with_their_rule(webhook: Webhook, shop: Kubectl) -> None:
    name = "kernelsecret_webhook_refusals_total"
    before = webhook.metric(name)
    shop.refused("create", "-f-", given=pod("counted", "nothing"))
    assert webhook.metric(name) == before + 1
    (written,) = webhook.audited("counted")
    assert (written["event"], written["rule"]) == ("refused", "interceptor")
    user = json.loads(shop("auth", "whoami", "--output=json"))["status"]["userInfo"]["username"]
    assert written["user"] == user
