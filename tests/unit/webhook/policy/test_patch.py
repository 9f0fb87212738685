"""The patch, by what it makes of a pod: everything that is needed, nothing else, and nothing the second time."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, DRIVER_NAME
from tests.unit.contract.builders import MISSING
from tests.unit.webhook.builders import (
    MOUNT_PATH,
    NAME,
    TOKEN_MOUNT,
    body,
    interceptor,
    mutated,
    mutation_refusal,
    node,
    operations,
    pod,
    response,
    view,
)
from tests.unit.webhook.json_patch import parts_of
from webhook.admission.mutate import mutate
from webhook.policy.operation import pointer

INJECT = "kernelsecret.io/inject"
CONTAINERS = "kernelsecret.io/containers"
INJECTED = "kernelsecret.io/injected-containers"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
VOLUME = {
    "name": "kernelsecret",
    "csi": {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: NAME}},
}
MOUNT = {"name": "kernelsecret", "mountPath": MOUNT_PATH, "readOnly": True}
ENGINE = {"key": "kernelsecret.io/engine", "operator": "In", "values": ["iter", "rewrite"]}
EMPTY = {"name": "data", "emptyDir": {}}


def container(name: str, *mounts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "x:1", "volumeMounts": [TOKEN_MOUNT, *mounts], **more}


def holders(made: Any) -> list[str]:
    """The containers that mount our volume at our path."""
    spec = made["spec"]
    every = [*spec.get("initContainers", []), *spec["containers"]]
    return [one["name"] for one in every if MOUNT in (one.get("volumeMounts") or [])]


def test_the_documented_pod_gets_volume_mount_annotations_and_label() -> None:
    before = pod()
    made = mutated(before)
    assert made["spec"]["volumes"] == [*before["spec"]["volumes"], VOLUME]
    assert made["spec"]["containers"][0]["volumeMounts"] == [TOKEN_MOUNT, MOUNT]
    assert made["metadata"]["annotations"] == {
        INJECT: "true",
        "kernelsecret.io/interceptor": NAME,
        "kernelsecret.io/chosen-mode": "ebpf",
        INJECTED: "app",
        "kernelsecret.io/decision": "mode ebpf: it works on the only node that the pod can land on",
    }
    assert made["metadata"]["labels"] == {"app": "api", "kernelsecret.io/injected": "true"}
    assert "affinity" not in made["spec"]


@pytest.mark.parametrize("empty", [None, [], MISSING])
def test_volumes_mounts_and_labels_may_be_missing_null_or_empty(empty: Any) -> None:
    before = pod(volumes=empty)
    before["spec"]["containers"] = [{"name": "app", "volumeMounts": copy.copy(empty)}]
    if empty is MISSING:
        before["spec"]["containers"] = [{"name": "app"}]
    seen = view(interceptor(podSelector={}))
    before["metadata"]["labels"] = {} if empty == [] else None
    if empty is MISSING:
        del before["metadata"]["labels"]
    made = mutated(before, seen)
    assert made["spec"]["volumes"] == [VOLUME]
    assert made["spec"]["containers"][0]["volumeMounts"] == [MOUNT]
    assert made["metadata"]["labels"] == {"kernelsecret.io/injected": "true"}


def test_init_containers_and_native_sidecars_get_the_files_too() -> None:
    before = pod(
        initContainers=[container("migrate"), container("sidecar", restartPolicy="Always")],
        containers=[container("app"), container("worker")],
    )
    made = mutated(before)
    assert holders(made) == ["migrate", "sidecar", "app", "worker"]
    assert made["metadata"]["annotations"][INJECTED] == "app,migrate,sidecar,worker"


def test_proxies_of_other_injectors_get_nothing_unless_the_interceptor_names_them() -> None:
    before = pod(
        initContainers=[container("istio-init"), container("istio-proxy", restartPolicy="Always")],
        containers=[container("app"), container("linkerd-proxy")],
    )
    assert holders(mutated(before)) == ["app"]
    named = view(interceptor(delivery={"containers": ["istio-proxy"]}))
    assert holders(mutated(before, named)) == ["istio-proxy"]


def test_the_annotation_narrows_and_only_narrows() -> None:
    containers = [container("app"), container("worker"), container("log")]
    asked = {INJECT: "true", CONTAINERS: " worker , app"}
    assert holders(mutated(pod(asked, containers=containers))) == ["app", "worker"]
    narrow = view(interceptor(delivery={"containers": ["app", "log"]}))
    assert holders(mutated(pod(containers=containers), narrow)) == ["app", "log"]
    assert holders(mutated(pod({INJECT: "true", CONTAINERS: "log"}, containers=containers), narrow)) == ["log"]
    rule, message = mutation_refusal(pod(asked, containers=containers), narrow)
    assert rule == "containers"
    assert "'worker' is not one that the interceptor 'payments-db' allows" in message


@pytest.mark.parametrize(
    ("annotations", "containers", "allowed", "words"),
    [
        ({CONTAINERS: "app,wroker"}, ["app", "worker"], [], "no container 'wroker'; it has 'app', 'worker'"),
        ({CONTAINERS: " , "}, ["app"], [], "names no container"),
        ({CONTAINERS: "istio-proxy"}, ["app", "istio-proxy"], [], "can only narrow"),
        ({}, ["app"], ["app", "worker"], "spec.delivery.containers: the pod has no container 'worker'"),
        ({}, ["istio-proxy"], [], "every container is a proxy"),
    ],
)
def test_containers_that_cannot_be_meant_are_refused(
    annotations: dict[str, str], containers: list[str], allowed: list[str], words: str
) -> None:
    thing = pod({INJECT: "true", **annotations}, containers=[container(name) for name in containers])
    rule, message = mutation_refusal(thing, view(interceptor(delivery={"containers": allowed})))
    assert rule == "containers"
    assert words in message


def test_a_name_that_another_volume_has_is_left_to_it() -> None:
    taken = [{"name": "kernelsecret", "emptyDir": {}}, {"name": "kernelsecret-2", "emptyDir": {}}]
    made = mutated(pod(volumes=taken))
    assert made["spec"]["volumes"] == [*taken, {**VOLUME, "name": "kernelsecret-3"}]
    assert made["spec"]["containers"][0]["volumeMounts"][-1] == {**MOUNT, "name": "kernelsecret-3"}


def test_a_volume_that_the_author_wrote_is_used() -> None:
    mine = {**VOLUME, "name": "mine"}
    elsewhere = {"name": "mine", "mountPath": "/etc/db"}
    made = mutated(pod(volumes=[mine], containers=[container("app", elsewhere), container("worker")]))
    assert made["spec"]["volumes"] == [mine]
    assert made["spec"]["containers"][0]["volumeMounts"] == [TOKEN_MOUNT, elsewhere]
    assert made["spec"]["containers"][1]["volumeMounts"] == [TOKEN_MOUNT, {**MOUNT, "name": "mine"}]
    assert made["metadata"]["annotations"][INJECTED] == "app,worker"


def test_a_mount_that_the_author_wrote_for_the_volume_to_come_is_used() -> None:
    elsewhere = {"name": "kernelsecret", "mountPath": "/etc/db"}
    made = mutated(pod(containers=[container("app", elsewhere)]))
    assert made["spec"]["containers"][0]["volumeMounts"] == [TOKEN_MOUNT, elsewhere]
    assert made["spec"]["volumes"][-1] == VOLUME
    taken = [{"name": "kernelsecret", "emptyDir": {}}]
    made = mutated(pod(volumes=taken, containers=[container("app", elsewhere)]))
    assert made["spec"]["containers"][0]["volumeMounts"][-1] == {**MOUNT, "name": "kernelsecret-2"}


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        (
            {"volumeAttributes": {ATTRIBUTE_INTERCEPTOR: "other"}},
            f"volumeAttributes[{ATTRIBUTE_INTERCEPTOR}]",
            "'other'",
        ),
        ({"volumeAttributes": None}, f"volumeAttributes[{ATTRIBUTE_INTERCEPTOR}]", "names nothing"),
        ({"readOnly": None}, "readOnly", "read-only"),
        ({"readOnly": False}, "readOnly", "read-only"),
        ({"fsType": "ext4"}, "fsType", "cannot be chosen"),
        ({"nodePublishSecretRef": {"name": "x"}}, "nodePublishSecretRef", "no credentials"),
        ({"volumeAttributes": {ATTRIBUTE_INTERCEPTOR: NAME, "a": "b"}}, "volumeAttributes['a']", "the only one is"),
    ],
)
def test_a_volume_of_ours_that_the_agent_would_not_serve_is_refused(changes: Any, field: str, why: str) -> None:
    volume = {**VOLUME, "csi": {**VOLUME["csi"], **changes}}  # type: ignore[dict-item]
    rule, message = mutation_refusal(pod(volumes=[EMPTY, volume]))
    assert rule == "volume"
    assert f"spec.volumes[1].csi.{field}: " in message
    assert why in message


@pytest.mark.parametrize(
    "path",
    [
        MOUNT_PATH,
        f"{MOUNT_PATH}/",
        "/run/secrets/payments-db",
        "/var//run/secrets/./payments-db",
        f"{MOUNT_PATH}/username",
        "/var/run/x/../secrets/payments-db",
        "//var/run/secrets/payments-db",
    ],
)
def test_something_else_at_our_path_is_refused_with_container_and_volume(path: str) -> None:
    thing = pod(
        volumes=[EMPTY], containers=[container("app"), container("worker", {"name": "data", "mountPath": path})]
    )
    rule, message = mutation_refusal(thing)
    assert rule == "mount"
    assert "spec.containers[1].volumeMounts[1].mountPath" in message
    assert "'worker'" in message
    assert "'data'" in message


@pytest.mark.parametrize("path", ["/srv/payments-db", "/var/run/secrets", "/var/run/secrets/payments-db-2", "/run"])
def test_something_near_our_path_is_no_hindrance(path: str) -> None:
    assert holders(mutated(pod(volumes=[EMPTY], containers=[container("app", {"name": "data", "mountPath": path})])))


def test_something_at_our_path_in_a_container_that_gets_nothing_is_no_hindrance() -> None:
    other = container("log", {"name": "data", "mountPath": MOUNT_PATH})
    asked = {INJECT: "true", CONTAINERS: "app"}
    assert holders(mutated(pod(asked, volumes=[EMPTY], containers=[container("app"), other]))) == ["app"]


@pytest.mark.parametrize("by", [{"subPath": "username"}, {"subPathExpr": "$(WHICH)"}])
def test_sub_paths_of_our_volume_are_allowed_with_a_warning(by: dict[str, str]) -> None:
    mine = {"name": "kernelsecret", "mountPath": "/etc/db/username", **by}
    thing = pod(volumes=[VOLUME], containers=[container("app", mine)])
    answer = mutate(body(thing), view())
    said = response(answer)
    assert said["allowed"]
    assert "spec.containers[0] mounts 'kernelsecret' by subPath, so it never sees a rotation" in said["warnings"][0]


def test_a_container_that_another_injector_added_after_us_gets_nothing() -> None:
    first = mutated(pod())
    first["spec"]["containers"].append(container("helper"))
    first["spec"]["initContainers"] = [container("early")]
    assert mutated(first) == first


def test_a_container_that_another_injector_added_with_a_copy_of_our_mount_is_written_down() -> None:
    first = mutated(pod())
    first["spec"]["containers"].append(container("copy", MOUNT))
    assert mutated(first)["metadata"]["annotations"][INJECTED] == "app,copy"
    only_app = view(interceptor(delivery={"containers": ["app"]}))
    rule, message = mutation_refusal(first, only_app)
    assert rule == "containers"
    assert "spec.containers[1].volumeMounts" in message


def test_an_annotation_that_the_mounts_do_not_bear_out_is_written_anew() -> None:
    lied = pod({INJECT: "true", INJECTED: "app,worker"}, containers=[container("app"), container("worker")])
    assert holders(mutated(lied)) == ["app", "worker"]
    half = mutated(pod(containers=[container("app"), container("worker")]))
    half["spec"]["containers"][1]["volumeMounts"].remove(MOUNT)
    assert holders(mutated(half)) == ["app", "worker"]


def test_dry_run_says_the_same() -> None:
    assert operations(mutate(body(pod(), dryRun=True), view())) == operations(mutate(body(pod()), view()))
    assert mutate(body(pod(), dryRun=True), view()).dry_run


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (MISSING, {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ENGINE]}]}}}),
        (None, {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ENGINE]}]}}}),
        (
            {"podAffinity": {"x": []}},
            {
                "podAffinity": {"x": []},
                "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ENGINE]}]}},
            },
        ),
        (
            {"nodeAffinity": {"preferred": []}},
            {"nodeAffinity": {"preferred": [], REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ENGINE]}]}}},
        ),
    ],
)
def test_node_affinity_is_added_where_only_some_nodes_can(before: Any, after: Any) -> None:
    assert mutated(pod(affinity=before), view(nodes=[node(), node("b", "")]))["spec"]["affinity"] == after


def test_every_alternative_of_the_affinity_asks_for_the_engine_but_one_that_accepts_no_node() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    name = {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
    terms = [{"matchExpressions": [zone]}, {"matchFields": [name]}, {}, {"matchExpressions": [zone, ENGINE]}]
    thing = pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": copy.deepcopy(terms)}}})
    made = mutated(thing, view(interceptor(delivery={"placement": "require"})))
    assert made["spec"]["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, ENGINE]},
        {"matchFields": [name], "matchExpressions": [ENGINE]},
        {},
        {"matchExpressions": [zone, ENGINE]},
    ]


@pytest.mark.parametrize("parts", [("a/b", "c~d"), ("~1", "/"), ("", "x"), (0, "-")])
def test_pointers_are_escaped_as_rfc_6901_says(parts: tuple[str | int, ...]) -> None:
    assert parts_of(pointer(*parts)) == [str(part) for part in parts]
