"""Pods of each mode beside what else a cluster has: Pod Security `restricted`, statuses, and webhooks that undo."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_MODE,
    ANNOTATION_VAULT_AGENT,
    ANNOTATION_VAULT_AGENT_INIT,
    CONTAINER_VAULT_AGENT,
    CONTAINER_VAULT_AGENT_INIT,
    ENV_PRELOAD,
    ENV_SHIM_PATHS,
    VOLUME_SHIM,
)
from tests.apiserver.harness.injector import LABEL, Change, Operations, injector
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import OF_VAULT, OPTED_IN, container, interceptor, pod
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.webhook import Webhook

NAMESPACE = "standards"
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
APP = container("app", securityContext=HARDENED)
CREATE = ("create", "--filename=-", "--output=json")
TRY = (*CREATE, "--dry-run=server")
UNDONE = {LABEL: "true"}


@pytest.fixture(scope="module")
def shop(webhook: Webhook) -> Kubectl:
    """A namespace in which the API server itself lets no pod in that is not `restricted`."""
    spec = {"access": {"unenforced": "allow"}, "delivery": {"modes": ["ebpf", "preload", "vault-agent"]}}
    webhook.cluster.kubectl.apply(interceptor("standard", NAMESPACE, secrets=[OF_VAULT], **spec))
    return webhook.cluster.namespace(NAMESPACE, {**OPTED_IN, **RESTRICTED})


def asking(mode: str, name: str = "app", **spec: Any) -> dict[str, Any]:
    return pod(name, "standard", annotations={ANNOTATION_MODE: mode}, **{"containers": [APP], **spec})


def created(kubectl: Kubectl, thing: dict[str, Any], *words: str) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(kubectl(*words, given=thing))
    return kept


@pytest.mark.parametrize("mode", ["ebpf", "preload", "vault-agent"])
@pytest.mark.parametrize("user", [None, 1000])
def test_what_is_added_to_a_restricted_pod_is_restricted(shop: Kubectl, mode: str, user: int | None) -> None:
    context: dict[str, Any] = {"securityContext": {"runAsUser": user}} if user else {}
    ran = shop.run(*TRY, given=asking(mode, **context))
    assert (ran.status, ran.err) == (0, ""), "no refusal, and no warning"
    assert json.loads(ran.out)["metadata"]["annotations"][ANNOTATION_CHOSEN_MODE] == mode
    assert "violates PodSecurity" in shop.refused(*TRY, given=asking(mode, containers=[container("app")], **context))


def test_a_pod_of_a_job_is_taken_and_its_agent_is_none_that_it_waits_for(shop: Kubectl) -> None:
    own = {"name": "migrate", "image": "example.com/migrate:1", "securityContext": HARDENED}
    kept = created(shop, asking("vault-agent", restartPolicy="Never", initContainers=[own]), *TRY)
    assert kept["spec"]["restartPolicy"] == "Never"
    first, sidecar, last = kept["spec"]["initContainers"]
    assert (first["name"], sidecar["name"], last["name"]) == (
        CONTAINER_VAULT_AGENT_INIT,
        CONTAINER_VAULT_AGENT,
        "migrate",
    )
    # What is restarted for ever among init containers ends with the last of the others.
    assert ("restartPolicy" in first, sidecar["restartPolicy"], "restartPolicy" in last) == (False, "Always", False)
    [app] = kept["spec"]["containers"]
    assert app["volumeMounts"][0]["mountPath"] == last["volumeMounts"][0]["mountPath"]


def used(webhook: Webhook) -> tuple[int, str]:
    """How many pods hold the interceptor, and the reason that its status gives."""
    status = webhook.cluster.kubectl.get("si", "standard").get("status", {})
    reasons = [one["reason"] for one in status.get("conditions", []) if one["type"] == "InUse"]
    return status.get("pods", 0), next(iter(reasons), "")


def test_pods_of_each_mode_count_as_users_and_those_who_take_our_names_do_not(webhook: Webhook, shop: Kubectl) -> None:
    modes = ("ebpf", "preload", "vault-agent")
    until(lambda: used(webhook) == (0, "NoPods"), "nobody uses it", explain=webhook.tails)
    # A copy that does not ask, as it is made to be debugged: it has containers of those names, and no claim to more.
    copied = forged(created(shop, asking("vault-agent", "copied"), *TRY), None)
    created(shop, copied, *CREATE)
    for mode in modes:
        created(shop, asking(mode, f"uses-{mode}"), *CREATE)
    until(lambda: used(webhook) == (3, "PodsHoldIt"), "all are counted", explain=webhook.tails)
    for mode in modes:
        webhook.cluster.remove_pod(NAMESPACE, f"uses-{mode}")
    until(lambda: used(webhook) == (0, "NoPods"), "nobody uses it", explain=webhook.tails)
    webhook.cluster.remove_pod(NAMESPACE, "copied")


def forged(kept: dict[str, Any], mode: str | None) -> dict[str, Any]:
    """What the API server has kept of a pod, as its author could have written it, asking for a mode or not at all."""
    thing = copy.deepcopy(kept)
    metadata = thing["metadata"]
    thing["metadata"] = {key: metadata[key] for key in ("name", "annotations", "labels")}
    annotations = thing["metadata"]["annotations"]
    if mode is None:
        thing["metadata"] = {"name": metadata["name"], "annotations": {}, "labels": {}}
    else:
        annotations[ANNOTATION_MODE] = annotations[ANNOTATION_CHOSEN_MODE] = mode
    return thing


def sidecar_of(thing: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in thing["spec"]["initContainers"] if one["name"] == CONTAINER_VAULT_AGENT)
    return found


def test_a_vault_agent_that_the_author_wrote_is_taken_only_where_it_is_ours_to_the_letter(shop: Kubectl) -> None:
    kept = created(shop, asking("vault-agent"), *TRY)
    assert created(shop, forged(kept, "vault-agent"), *TRY)["spec"]["initContainers"] == kept["spec"]["initContainers"]
    changes: list[tuple[str, dict[str, Any]]] = [
        ("image", {"image": "evil.example.com/vault:1"}),
        ("command", {"command": ["sh", "-c", "cat /run/kernelsecret.io/agent/token"]}),
        ("args", {"args": ["-config=/tmp/evil.json"]}),
        ("env", {"env": [{"name": "VAULT_ADDR", "value": "https://evil.example.com"}]}),
        ("envFrom", {"envFrom": [{"configMapRef": {"name": "evil"}}]}),
        ("securityContext", {"securityContext": {**HARDENED, "runAsUser": 1}}),
        ("volumeMounts", {"volumeMounts": []}),
    ]
    for field, change in changes:
        thing = forged(kept, "vault-agent")
        sidecar_of(thing).update(change)
        said = shop.refused(*TRY, given=thing)
        assert "(rule injected)" in said, field
        assert f"spec.initContainers[1].{field}" in said


@pytest.mark.parametrize("mode", ["preload", "ebpf"])
def test_what_is_called_ours_is_refused_in_a_pod_of_another_mode(shop: Kubectl, mode: str) -> None:
    kept = created(shop, asking("vault-agent"), *TRY)
    spec, annotations = kept["spec"], kept["metadata"]["annotations"]
    volumes = [*spec["volumes"], {"name": "kernelsecret", "emptyDir": {"medium": "Memory"}}]
    volumes = list({one["name"]: one for one in volumes}.values())
    settings = {name: annotations[name] for name in (ANNOTATION_VAULT_AGENT, ANNOTATION_VAULT_AGENT_INIT)}
    with_settings = asking(mode)
    with_settings["metadata"]["annotations"] |= settings
    for thing, field in (
        (asking(mode, volumes=volumes, initContainers=spec["initContainers"]), "spec.initContainers: "),
        (asking(mode, volumes=volumes), "spec.volumes["),
        (with_settings, f"metadata.annotations[{ANNOTATION_VAULT_AGENT}]"),
    ):
        said = shop.refused(*TRY, given=thing)
        assert f"(rule injected): {field}" in said


# What another webhook undoes


def variables(spec: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Where the containers have a variable, and its value."""
    for number, one in enumerate(spec["containers"]):
        for index, variable in enumerate(one.get("env", [])):
            if variable["name"] == name:
                yield f"/spec/containers/{number}/env/{index}", variable["value"]


def replaced(spec: dict[str, Any], name: str, wanted: str) -> Operations:
    found = variables(spec, name)
    return [{"op": "replace", "path": f"{at}/value", "value": wanted} for at, value in found if value != wanted]


def without_preload(spec: dict[str, Any]) -> Operations:
    """Take away what loads the shim."""
    return [{"op": "remove", "path": at} for at, _ in variables(spec, ENV_PRELOAD)]


def own_preload(spec: dict[str, Any]) -> Operations:
    """Something else is to be preloaded, and nothing but that."""
    return replaced(spec, ENV_PRELOAD, "/opt/evil.so")


def other_paths(spec: dict[str, Any]) -> Operations:
    """The shim is led elsewhere."""
    return replaced(spec, ENV_SHIM_PATHS, "/etc=/tmp")


def without_shim(spec: dict[str, Any]) -> Operations:
    """Take the shim's mounts away."""
    return [
        {"op": "remove", "path": f"/spec/containers/{number}/volumeMounts/{index}"}
        for number, one in enumerate(spec["containers"])
        for index, mount in enumerate(one.get("volumeMounts", []))
        if mount["name"] == VOLUME_SHIM
    ]


def other_agent(spec: dict[str, Any]) -> Operations:
    """Put another program into our sidecar."""
    return [
        {"op": "replace", "path": f"/spec/initContainers/{index}/image", "value": "evil.example.com/vault:1"}
        for index, one in enumerate(spec.get("initContainers", []))
        if one["name"] == CONTAINER_VAULT_AGENT
    ]


def without_init(spec: dict[str, Any]) -> Operations:
    """Let the application start before its files are there."""
    return [
        {"op": "remove", "path": f"/spec/initContainers/{index}"}
        for index, one in enumerate(spec.get("initContainers", []))
        if one["name"] == CONTAINER_VAULT_AGENT_INIT
    ]


@contextmanager
def undoing(webhook: Webhook, shop: Kubectl, change: Change, *, again: bool) -> Iterator[list[Operations]]:
    """Another webhook that is called after ours; what it did, call by call."""
    calls: list[Operations] = []

    def counted(spec: dict[str, Any]) -> Operations:
        calls.append(change(spec))
        return calls[-1]

    with injector(webhook.cluster, "z-undoing", counted, again=again):
        probe = pod("probe", containers=[APP], labels=UNDONE)
        until(lambda: created(shop, probe, *TRY) and calls, "the other webhook is called")
        calls.clear()
        yield calls


CHANGES = [
    (without_preload, "preload", "env"),
    (own_preload, "preload", "env"),
    (other_paths, "preload", "env"),
    (without_shim, "preload", "volumeMounts"),
    (other_agent, "vault-agent", "image"),
    (without_init, "vault-agent", "initContainers"),
]


@pytest.mark.parametrize(("change", "mode", "field"), CHANGES, ids=[change.__name__ for change, *_ in CHANGES])
def test_who_undoes_it_again_and_again_has_the_pod_refused(
    webhook: Webhook, shop: Kubectl, change: Change, mode: str, field: str
) -> None:
    with undoing(webhook, shop, change, again=True) as calls:
        said = shop.refused(*TRY, given=asking(mode, labels=UNDONE))
    assert any(calls), "it did undo it"
    assert "(rule injected)" in said
    assert field in said
    assert "another webhook" in said or "admission" in said or "create the pod again" in said


def test_what_is_undone_once_is_put_back(webhook: Webhook, shop: Kubectl) -> None:
    with undoing(webhook, shop, without_preload, again=False) as calls:
        kept = created(shop, asking("preload", labels=UNDONE), *TRY)
    assert [bool(one) for one in calls] == [True]
    assert ENV_PRELOAD in [one["name"] for one in kept["spec"]["containers"][0]["env"]]
