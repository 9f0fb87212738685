"""The three modes through a real API server: what pods become, what is refused, and what they are told."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_DECISION,
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_MODE,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    DRIVER_NAME,
    LABEL_ENGINE,
    LABEL_IDMAPPED,
    SHIM_FILE,
    SHIM_ROOT,
    VOLUME_NAME,
    VOLUME_SHIM,
)
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OF_VAULT, OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "modes"
PATH = "/var/run/secrets/moded"
SHIM = f"{SHIM_ROOT}/{SHIM_FILE}"
MODES = {"modes": ["ebpf", "preload", "vault-agent"]}
WAIVED = {"unenforced": "allow"}
PROBE = ["--dry-run=server"]


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """A namespace with an interceptor that waives its rule, one that does not, and one that waits for its mode."""
    cluster = webhook.cluster
    specs: dict[str, dict[str, Any]] = {
        "moded": {"access": WAIVED, "delivery": MODES},
        "strict": {"delivery": MODES},
        "waiting": {"access": WAIVED, "delivery": {"modes": ["preload"], "placement": "require"}},
    }
    for name, spec in specs.items():
        cluster.kubectl.apply(interceptor(name, NAMESPACE, secrets=[OF_VAULT], **spec))
    return cluster.namespace(NAMESPACE, OPTED_IN)


def asking(mode: str, name: str = "app", by: str = "moded", **given: Any) -> dict[str, Any]:
    return pod(name, by, annotations={ANNOTATION_MODE: mode}, **given)


def created(kubectl: Kubectl, thing: dict[str, Any], *words: str) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(kubectl("create", "-f-", "-ojson", *words, given=thing))
    return kept


def variables(one: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in one.get("env", [])}


def test_a_pod_in_mode_preload_has_secrets_shim_and_environment(shop: Kubectl) -> None:
    kept = created(shop, asking("preload", containers=[container("app"), container("log")]), *PROBE)
    ours = {one["name"]: one["csi"] for one in kept["spec"]["volumes"] if "csi" in one}
    made = {"driver": DRIVER_NAME, "readOnly": True}
    assert ours == {
        VOLUME_NAME: {**made, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "moded"}},
        VOLUME_SHIM: {**made, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}},
    }
    for one in kept["spec"]["containers"]:
        assert variables(one) == {"LD_PRELOAD": SHIM, "KERNELSECRET_SHIM_PATHS": PATH}
        assert {"name": VOLUME_SHIM, "mountPath": SHIM_ROOT, "readOnly": True} in one["volumeMounts"]
    annotations = kept["metadata"]["annotations"]
    assert annotations[ANNOTATION_CHOSEN_MODE] == "preload"
    assert annotations[ANNOTATION_DECISION].startswith("mode preload: ")
    # What the API server has kept is what admission would make of it again.
    kept["metadata"] = {key: kept["metadata"][key] for key in ("name", "annotations", "labels")}
    again = created(shop, kept, *PROBE)
    assert again["spec"]["containers"] == kept["spec"]["containers"]


def test_what_the_author_preloads_stays_behind_the_shim(shop: Kubectl) -> None:
    shop("create", "configmap", "tools", "--from-literal=preload=/opt/other.so")
    ref = {"name": "tools", "key": "preload"}
    elsewhere = {"name": "LD_PRELOAD", "valueFrom": {"configMapKeyRef": ref}}
    both = [
        container("app", env=[{"name": "LD_PRELOAD", "value": "/opt/own.so"}]),
        container("log", env=[elsewhere, {"name": "B", "value": "b"}]),
    ]
    app, log = created(shop, asking("preload", containers=both), *PROBE)["spec"]["containers"]
    assert variables(app)["LD_PRELOAD"] == f"{SHIM}:/opt/own.so"
    assert [one["name"] for one in log["env"]] == [
        "KERNELSECRET_OWN_LD_PRELOAD",
        "LD_PRELOAD",
        "B",
        "KERNELSECRET_SHIM_PATHS",
    ]
    assert variables(log)["KERNELSECRET_OWN_LD_PRELOAD"] == {"configMapKeyRef": ref}
    optional = copy.deepcopy(elsewhere)
    optional["valueFrom"]["configMapKeyRef"]["optional"] = True  # type: ignore[index]
    said = shop.refused("create", "-f-", *PROBE, given=asking("preload", containers=[container("app", env=[optional])]))
    assert "(rule environment): spec.containers[0].env[0].valueFrom: it may be missing" in said


def test_a_pod_in_mode_vault_agent_needs_no_driver_of_ours(shop: Kubectl) -> None:
    kept = created(shop, asking("vault-agent"), *PROBE)
    assert not any("csi" in one for one in kept["spec"]["volumes"])
    assert [one["name"] for one in kept["spec"]["initContainers"]] == [
        CONTAINER_VAULT_AGENT_INIT,
        CONTAINER_VAULT_AGENT,
    ]
    [app] = kept["spec"]["containers"]
    assert {"name": VOLUME_NAME, "mountPath": PATH, "readOnly": True} in app["volumeMounts"]
    assert kept["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "vault-agent"
    # It works on every node, so none is asked for.
    assert "affinity" not in kept["spec"]


@pytest.mark.parametrize("mode", ["preload", "vault-agent"])
def test_a_mode_that_cannot_hold_the_rule_is_refused_where_that_is_not_waived(shop: Kubectl, mode: str) -> None:
    said = shop.refused("create", "-f-", *PROBE, given=asking(mode, by="strict"))
    assert f"spec.access.unenforced: mode `{mode}` cannot hold the access rule, and that is not waived" in said


@pytest.mark.parametrize("mode", ["EBPF", "shim", "", "auto,preload"])
def test_a_mode_that_is_none_is_refused_with_those_that_there_are(shop: Kubectl, mode: str) -> None:
    said = shop.refused("create", "-f-", *PROBE, given=asking(mode))
    assert f"'{mode}' is no mode" in said
    assert "(ebpf, preload, vault-agent), or 'auto'" in said


def test_a_pod_with_a_user_namespace_waits_for_a_node_that_was_seen_to_serve_one(shop: Kubectl) -> None:
    kept = created(shop, pod("app", "waiting", hostUsers=False), *PROBE)
    required = kept["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    assert {one["key"]: one["values"] for one in term["matchExpressions"]} == {
        LABEL_ENGINE: ["iter", "rewrite", "tmpfs"],
        LABEL_IDMAPPED: ["tmpfs"],
    }
    said = shop.refused("create", "-f-", *PROBE, given=pod("app", "strict", hostUsers=False))
    assert "spec.hostUsers: mode `ebpf` cannot serve a pod with a user namespace of its own" in said
    free = created(shop, pod("app", "moded", hostUsers=False), *PROBE)
    assert free["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == "vault-agent"
    assert "; not preload: it works on no" in free["metadata"]["annotations"][ANNOTATION_DECISION]


def test_the_shim_is_for_pods_in_its_mode_alone(shop: Kubectl) -> None:
    shim = {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_SHIM: "true"}}
    volumes = [{"name": "mine", "csi": shim}]
    assert "(rule volume)" in shop.refused("create", "-f-", *PROBE, given=asking("ebpf", volumes=volumes))
    assert "(rule driver)" in shop.refused("create", "-f-", *PROBE, given=pod("app", volumes=volumes))


def test_what_admission_wrote_of_the_mode_stays_and_nobody_debugs_a_vault_agents_pod(shop: Kubectl) -> None:
    made = created(shop, asking("vault-agent", "held"))
    for name in (ANNOTATION_DECISION, ANNOTATION_CHOSEN_MODE):
        assert "(rule status)" in shop.refused("annotate", "--overwrite", "pod/held", f"{name}=mode ebpf: x")
        assert "(rule status)" in shop.refused("annotate", "pod/held", f"{name}-")
    index = [one["name"] for one in made["spec"]["initContainers"]].index(CONTAINER_VAULT_AGENT)
    change = [{"op": "replace", "path": f"/spec/initContainers/{index}/image", "value": "evil:1"}]
    assert "(rule immutable)" in shop.refused("patch", "pod", "held", "--type=json", f"--patch={json.dumps(change)}")
    said = shop.refused("debug", "held", "--image=busybox", "--attach=false", "--profile=general")
    assert "(rule ephemeral)" in said


def test_a_new_pod_cannot_claim_a_mode_that_it_does_not_have(shop: Kubectl) -> None:
    """Held by the API server alone: nothing of the webhook is asked, as its own words would come first."""
    kept = created(shop, asking("preload"), *PROBE)
    kept["metadata"] = {key: kept["metadata"][key] for key in ("name", "annotations", "labels")}
    kept["metadata"]["annotations"][ANNOTATION_MODE] = "auto"
    for name, value in {ANNOTATION_CHOSEN_MODE: "ebpf", ANNOTATION_INTERCEPTOR: "strict"}.items():
        forged = copy.deepcopy(kept)
        forged["metadata"]["annotations"][name] = value
        assert "kernelsecret" in shop.refused("create", "-f-", *PROBE, given=forged)


@pytest.mark.parametrize(("mode", "kind"), [("preload", "Normal"), ("vault-agent", "Normal")])
def test_a_bound_pod_is_told_which_mode_it_was_given(shop: Kubectl, webhook: Webhook, mode: str, kind: str) -> None:
    name = f"told-{mode}"
    sentence = created(shop, asking(mode, name))["metadata"]["annotations"][ANNOTATION_DECISION]

    def events() -> list[Any]:
        found = shop.get("events.v1.events.k8s.io", f"--field-selector=regarding.name={name},reason=ModeChosen")
        return list(found["items"])

    [event] = until(events, f"{name} is told", explain=webhook.tails)
    assert (event["note"], event["type"], event["reportingController"]) == (sentence, kind, "kernelsecret.io/webhook")
