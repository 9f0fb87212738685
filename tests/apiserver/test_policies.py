"""The rules that the API server holds by itself: here no webhook is registered, so nobody else can have refused."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_CONTAINERS,
    ANNOTATION_DECISION,
    ANNOTATION_INJECT,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_MODE,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    DRIVER_NAME,
    LABEL_INJECTED,
    SYSTEM_NAMESPACE,
    VOLUME_NAME,
    VOLUME_SHIM,
)
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OPTED_IN, container, interceptor, pod

POLICY = "ValidatingAdmissionPolicy"
OURS = {
    "name": VOLUME_NAME,
    "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "held"}},
}
STATUS = {
    ANNOTATION_INTERCEPTOR: "held",
    ANNOTATION_CHOSEN_MODE: "ebpf",
    ANNOTATION_INJECTED_CONTAINERS: "app",
    ANNOTATION_DECISION: "mode ebpf: it works on the only node that the pod can land on",
}
SHIM = {
    "name": VOLUME_SHIM,
    "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}},
}
FILES = {"name": VOLUME_NAME, "mountPath": "/var/run/secrets/held"}


def host_path(path: str) -> dict[str, Any]:
    return {"name": "host", "hostPath": {"path": path}}


def injected(name: str, interceptor_name: str = "held", *, mode: str = "ebpf") -> dict[str, Any]:
    """A pod as admission would have left it, as far as the policies look."""
    volume = {**OURS, "csi": {**OURS["csi"], "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: interceptor_name}}}  # type: ignore[dict-item]
    status = {
        ANNOTATION_INTERCEPTOR: interceptor_name,
        ANNOTATION_CHOSEN_MODE: mode,
        ANNOTATION_DECISION: f"mode {mode}: it works",
    }
    own = [container(each, volumeMounts=[FILES]) for each in (CONTAINER_VAULT_AGENT_INIT, CONTAINER_VAULT_AGENT)]
    more: dict[str, dict[str, Any]] = {
        "ebpf": {"volumes": [volume]},
        "preload": {"volumes": [volume, SHIM]},
        "vault-agent": {"volumes": [{"name": VOLUME_NAME, "emptyDir": {}}], "initContainers": own},
    }
    return pod(
        name,
        "true",
        annotations=STATUS | status,
        labels={LABEL_INJECTED: "true"},
        containers=[container("app", volumeMounts=[FILES])],
        **more[mode],
    )


@pytest.fixture(scope="module")
def open_ns(alone: Cluster) -> Kubectl:
    """kubectl in a namespace whose pods may opt in."""
    return alone.namespace("policies-open", OPTED_IN)


@pytest.fixture(scope="module")
def closed_ns(alone: Cluster) -> Kubectl:
    """kubectl in a namespace whose pods may not."""
    return alone.namespace("policies-closed")


def refused(kubectl: Kubectl, thing: object, *, said: str) -> None:
    """kubectl create is refused by a policy, in a message that has this."""
    error = kubectl.refused("create", "-f-", "--dry-run=server", given=thing)
    assert POLICY in error
    assert said in error


# New pods


@pytest.mark.parametrize("name", sorted(STATUS))
def test_an_annotation_that_only_admission_writes_is_refused_on_a_pod_that_did_not_opt_in(
    open_ns: Kubectl, name: str
) -> None:
    refused(
        open_ns,
        pod(annotations={name: STATUS[name]}),
        said="is written by admission alone, and this pod does not opt in",
    )


def test_the_label_that_only_admission_writes_is_refused_on_a_pod_that_did_not_opt_in(open_ns: Kubectl) -> None:
    refused(
        open_ns,
        pod(labels={LABEL_INJECTED: "true"}),
        said="is written by admission alone, and this pod does not opt in",
    )


def test_our_driver_is_refused_in_a_pod_that_did_not_opt_in(open_ns: Kubectl, closed_ns: Kubectl) -> None:
    for kubectl in (open_ns, closed_ns):
        refused(kubectl, pod(volumes=[OURS]), said="spec.volumes[0].csi.driver: is for pods that opt in")


def test_a_pod_that_opts_out_in_words_may_not_use_our_driver_either(open_ns: Kubectl) -> None:
    refused(open_ns, pod(inject="false", volumes=[OURS]), said="spec.volumes[0].csi.driver: is for pods that opt in")


def test_a_pod_that_asks_in_a_namespace_without_the_label_is_told_to_label_it(closed_ns: Kubectl) -> None:
    refused(closed_ns, pod(inject="true"), said="label namespace policies-closed kernelsecret.io/inject=enabled")


def test_a_pod_that_asks_and_went_past_the_webhook_is_refused(open_ns: Kubectl) -> None:
    refused(open_ns, pod(inject="true"), said="asks for secrets and was given none")


def test_a_pod_that_says_another_interceptor_than_its_volume_is_refused(open_ns: Kubectl) -> None:
    thing = injected("app")
    thing["metadata"]["annotations"][ANNOTATION_INTERCEPTOR] = "other"
    refused(open_ns, thing, said=f"metadata.annotations[{ANNOTATION_INTERCEPTOR}]")


def test_a_pod_that_names_a_container_that_does_not_mount_its_files_is_refused(open_ns: Kubectl) -> None:
    thing = injected("app")
    thing["metadata"]["annotations"][ANNOTATION_INJECTED_CONTAINERS] = "app,other"
    refused(open_ns, thing, said="names a container that does not mount our volume")


def test_a_pod_that_hides_a_container_that_mounts_its_files_is_refused(open_ns: Kubectl) -> None:
    mounted = {"volumeMounts": [{"name": VOLUME_NAME, "mountPath": "/x"}]}
    thing = injected("app")
    thing["spec"]["containers"].append(container("other", **mounted))
    refused(open_ns, thing, said="or leaves one out that does")


@pytest.mark.parametrize("mode", ["ebpf", "preload", "vault-agent"])
def test_a_pod_as_admission_leaves_it_is_let_through(open_ns: Kubectl, mode: str) -> None:
    open_ns("create", "-f-", "--dry-run=server", given=injected("app", mode=mode))


@pytest.mark.parametrize(
    ("made", "claimed"),
    [(made, claimed) for made, claimed in itertools.permutations(["ebpf", "preload", "vault-agent"], 2)]
    + [("ebpf", "magic")],
)
def test_a_pod_that_claims_another_mode_than_it_has_is_refused(open_ns: Kubectl, made: str, claimed: str) -> None:
    thing = injected("app", mode=made)
    thing["metadata"]["annotations"] |= {
        ANNOTATION_CHOSEN_MODE: claimed,
        ANNOTATION_DECISION: f"mode {claimed}: it works",
    }
    refused(open_ns, thing, said="refuses this (rule status)")


def test_a_pod_whose_decision_is_about_another_mode_is_refused(open_ns: Kubectl) -> None:
    thing = injected("app")
    thing["metadata"]["annotations"][ANNOTATION_DECISION] = "mode preload: it works"
    refused(open_ns, thing, said=f"metadata.annotations[{ANNOTATION_CHOSEN_MODE}]: is not what the pod's volumes")


def test_a_pod_with_a_vault_agent_names_the_containers_that_see_its_files(open_ns: Kubectl) -> None:
    thing = injected("app", mode="vault-agent")
    thing["spec"]["containers"].append(container("other", volumeMounts=[FILES]))
    refused(open_ns, thing, said="or leaves one out that does")


@pytest.mark.parametrize(
    "path",
    [
        "/run/kernelsecret",
        "/run/kernelsecret/bpf",
        "/var/run/kernelsecret",
        "//run/./kernelsecret//",
        "/etc/kernelsecret/secrets",
        "/var/log/kernelsecret",
        "/var/lib/kubelet/plugins/csi.kernelsecret.io/csi.sock",
    ],
)
def test_a_folder_of_the_node_that_is_ours_cannot_be_mounted(closed_ns: Kubectl, path: str) -> None:
    refused(closed_ns, pod(volumes=[host_path(path)]), said="spec.volumes[0].hostPath.path: ")


@pytest.mark.parametrize("path", ["/srv/data", "/run/kernelsecret-other", "/var/log", "/var/lib/kubelet/pods"])
def test_other_folders_of_the_node_can_be_mounted(closed_ns: Kubectl, path: str) -> None:
    closed_ns("create", "-f-", "--dry-run=server", given=pod(volumes=[host_path(path)]))


@pytest.mark.parametrize("path", ["/", "/run", "/etc", "/var/lib/kubelet", "/var/lib/kubelet/plugins_registry"])
def test_node_agents_of_others_can_mount_what_lies_above_ours_and_are_warned(closed_ns: Kubectl, path: str) -> None:
    made = closed_ns.run("create", "-f-", "--dry-run=server", given=pod(volumes=[host_path(path)]))
    assert made.status == 0
    assert f"spec.volumes[0].hostPath.path: '{path}' has " in made.err
    assert "mount less of the node" in made.err


def test_system_namespaces_are_not_touched(alone: Cluster) -> None:
    alone.account("kube-system", "node-agent")
    thing = pod(volumes=[host_path("/"), OURS], annotations=STATUS, serviceAccountName="node-agent")
    alone.kubectl.within("kube-system")("create", "-f-", "--dry-run=server", given=thing)


# Pods that are there


@pytest.fixture(scope="module")
def held(alone: Cluster, open_ns: Kubectl) -> Kubectl:
    """kubectl in the namespace of `held`, a pod that was injected, and `plain`, one that was not."""
    alone.kubectl.apply(interceptor("held", "policies-open"))
    open_ns.apply(injected("held"), pod("plain"))
    return open_ns


@pytest.mark.parametrize(
    "change",
    [
        [f"{ANNOTATION_INTERCEPTOR}=other"],
        [f"{ANNOTATION_CHOSEN_MODE}=preload"],
        [f"{ANNOTATION_INJECTED_CONTAINERS}-"],
        [f"{ANNOTATION_INJECT}=other"],
        [f"{ANNOTATION_INJECT}-"],
        [f"{ANNOTATION_MODE}=ebpf"],
        [f"{ANNOTATION_CONTAINERS}=app"],
    ],
)
def test_what_an_injected_pod_was_given_cannot_be_rewritten(held: Kubectl, change: list[str]) -> None:
    said = held.refused("annotate", "--overwrite", "pod/held", *change)
    assert POLICY in said
    assert "kernelsecret.io/" in said


@pytest.mark.parametrize("subresource", ["--subresource=status", None])
def test_the_label_of_an_injected_pod_cannot_be_taken_away_nor_by_its_status(
    held: Kubectl, subresource: str | None
) -> None:
    patch = json.dumps({"metadata": {"labels": {LABEL_INJECTED: None}}})
    words = ["patch", "pod/held", "--type=merge", f"--patch={patch}", *([subresource] if subresource else [])]
    assert "written by admission alone; leave it as it was" in held.refused(*words)


def test_a_pod_that_runs_cannot_ask_later_nor_be_made_to_look_injected(held: Kubectl) -> None:
    assert "given only when a pod is created" in held.refused("annotate", "pod/plain", f"{ANNOTATION_INJECT}=true")
    assert POLICY in held.refused("annotate", "pod/plain", f"{ANNOTATION_INTERCEPTOR}=held")
    assert POLICY in held.refused("label", "pod/plain", f"{LABEL_INJECTED}=true")


def test_everything_else_of_a_pod_can_be_changed(held: Kubectl) -> None:
    for name in ("held", "plain"):
        held("annotate", "--overwrite", f"pod/{name}", "example.com/note=1")
        held("label", "--overwrite", f"pod/{name}", "tier=db")
        held("patch", f"pod/{name}", "--subresource=status", "--type=merge", '--patch={"status":{"phase":"Running"}}')
    held("annotate", "pod/plain", f"{ANNOTATION_INJECT}=false")


@pytest.mark.parametrize("path", ["pods/plain/binding", "bindings"])
def test_a_binding_cannot_bring_our_annotations_onto_a_pod(held: Kubectl, path: str) -> None:
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "plain", "annotations": STATUS},
        "target": {"kind": "Node", "name": "anywhere"},
    }
    said = held.refused("create", f"--raw=/api/v1/namespaces/policies-open/{path}", "-f-", given=binding)
    assert "land on the pod" in said


# Ephemeral containers, as kubectl debug makes them


def debug(kubectl: Kubectl, name: str) -> list[str]:
    return ["debug", f"pod/{name}", "--image=example.com/debug:1", "--container=debugger", "--", "sh"]


def test_kubectl_debug_is_refused_in_a_pod_that_holds_secrets_and_says_who_can_allow_it(held: Kubectl) -> None:
    said = held.refused(*debug(held, "held"))
    assert "the interceptor 'held'" in said
    assert "spec.access.ephemeralContainers" in said


def test_kubectl_debug_works_in_other_pods(held: Kubectl) -> None:
    held(*debug(held, "plain"))


def test_kubectl_debug_works_where_the_interceptor_allows_it(alone: Cluster, held: Kubectl) -> None:
    alone.kubectl.apply(interceptor("lenient", "policies-open", access={"ephemeralContainers": "allow"}))
    held.apply(injected("open-to-debuggers", "lenient"))
    held(*debug(held, "open-to-debuggers"))


def test_a_hidden_volume_of_ours_does_not_help_without_a_container(held: Kubectl) -> None:
    """The volume counts, not who mounts it."""
    thing = pod(volumes=[OURS], containers=[container("a"), container("b")])
    refused(held, thing, said="spec.volumes[0].csi.driver: is for pods that opt in")


def test_the_namespace_of_the_product_is_left_alone(alone: Cluster) -> None:
    system = alone.kubectl.within(SYSTEM_NAMESPACE)
    system("create", "-f-", "--dry-run=server", given=pod(volumes=[host_path("/run/kernelsecret")]))
