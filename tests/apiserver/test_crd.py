"""The SecretInterceptor as the API server keeps it: what it refuses, fills in, shows and explains, with no webhook."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException, CustomObjectsApi

from kernelsecret.problems import Invalid
from kernelsecret.validation import read_interceptor
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.kubectl import Kubectl
from tests.apiserver.harness.objects import interceptor

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("**/interceptors/*.yaml"))
PLURAL = ("kernelsecret.io", "v1alpha1", "secretinterceptors")


def said_by_server(cluster: Cluster, thing: dict[str, Any]) -> str | None:
    """Why the API server refuses it, or None: a dry run, with unknown fields refused as kubectl has it."""
    try:
        CustomObjectsApi(cluster.api).create_cluster_custom_object(
            *PLURAL, thing, dry_run="All", field_validation="Strict"
        )
    except ApiException as error:
        if error.status not in (400, 422) or not error.body:
            raise
        return str(json.loads(error.body)["message"])
    return None


def said_by_us(thing: dict[str, Any]) -> str | None:
    """Why our own reader refuses it, or None."""
    try:
        read_interceptor(thing)
    except Invalid as invalid:
        return str(invalid)
    return None


@pytest.fixture
def kubectl(alone: Cluster) -> Kubectl:
    """kubectl as a cluster admin."""
    return alone.kubectl


def changed(path: str, value: Any) -> dict[str, Any]:
    """A good interceptor with one value changed: `spec.secrets.0.name`."""
    thing = copy.deepcopy(interceptor("tried"))
    at: Any = thing
    *way, last = path.split(".")
    for step in way:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[int(step)]
    at[last] = value
    return thing


FILE = {"path": "password", "key": "password"}
SHOWN = {"path": "password", "template": "{{ username }}:{{ password }}"}
VAULT: dict[str, Any] = {"path": "kv/data/db", "role": "shop"}
APP_ROLE = {"path": "kv/data/db", "auth": {"method": "appRole", "credential": "shop"}}
BAD = [
    ("metadata.name", "true", "metadata.name"),
    ("spec.secrets", [], "spec.secrets"),
    ("spec.secrets.0.name", "Data_Base", "spec.secrets[0].name"),
    ("spec.secrets.0.source", {}, "spec.secrets[0].source"),
    ("spec.secrets.0.source.vault", VAULT, "spec.secrets[0].source"),
    ("spec.secrets.0.source", {"kubernetes": {"name": "db", "readAs": "node"}}, "source.kubernetes.readAs"),
    *(
        ("spec.secrets.0.source", {"vault": thing}, f"spec.secrets[0].source.vault.{field}")
        for thing, field in (
            ({"path": "kv/data/db"}, "role"),
            (VAULT | {"path": "/kv/data/db"}, "path"),
            (VAULT | {"path": "v1/kv/data/db"}, "path"),
            (VAULT | {"path": "kv/../sys"}, "path"),
            (VAULT | {"path": "kv//db"}, "path"),
            (VAULT | {"path": "kv/db/"}, "path"),
            (VAULT | {"path": "kv/db?version=2"}, "path"),
            (VAULT | {"path": "kv/a\nb"}, "path"),
            (VAULT | {"role": "a b"}, "role"),
            (APP_ROLE | {"role": "shop"}, "role"),
            (VAULT | {"auth": {"method": "token"}}, "auth.method"),
            (VAULT | {"auth": {"mount": "auth/kubernetes"}}, "auth.mount"),
            (VAULT | {"auth": {"mount": "kubernetes/"}}, "auth.mount"),
            (VAULT | {"auth": {"audience": ""}}, "auth.audience"),
            (VAULT | {"auth": {"credential": "shop"}}, "auth.credential"),
            (APP_ROLE | {"auth": {"method": "appRole"}}, "auth.credential"),
            (APP_ROLE | {"auth": {"method": "appRole", "credential": "../shop"}}, "auth.credential"),
            (VAULT | {"namespace": "/admin"}, "namespace"),
            (VAULT | {"version": -1}, "version"),
            (VAULT | {"version": 1, "parameters": {"a": "b"}}, "version"),
            (VAULT | {"parameters": {"a": "v" * 1025}}, "parameters"),
            (VAULT | {"parameters": {str(number): "" for number in range(17)}}, "parameters"),
        )
    ),
    ("spec.secrets.0.files", [{"path": "password"}], "spec.secrets[0].files[0]"),
    ("spec.secrets.0.files", [FILE | SHOWN], "spec.secrets[0].files[0]"),
    ("spec.secrets.0.files", [FILE | {"jsonPointer": "a/b"}], "spec.secrets[0].files[0].jsonPointer"),
    ("spec.secrets.0.files", [FILE | {"jsonPointer": "/a~2"}], "spec.secrets[0].files[0].jsonPointer"),
    ("spec.secrets.0.files", [FILE | {"decode": "hex"}], "spec.secrets[0].files[0].decode"),
    ("spec.secrets.0.files", [SHOWN | {"jsonPointer": "/a"}], "spec.secrets[0].files[0].jsonPointer"),
    ("spec.secrets.0.files", [SHOWN | {"decode": "base64"}], "spec.secrets[0].files[0].decode"),
    ("spec.secrets.0.files", [SHOWN | {"template": "password"}], "spec.secrets[0].files[0].template"),
    ("spec.secrets.0.source.file.path", "/etc", "spec.secrets[0].source.file.path"),
    ("spec.secrets.0.source.file.path", "a/../b", "spec.secrets[0].source.file.path"),
    ("spec.secrets.0.files", [], "spec.secrets[0].files"),
    ("spec.secrets.0.files", [FILE, FILE], "spec.secrets[0].files[1]"),
    ("spec.secrets.0.files", [FILE | {"path": "../up"}], "spec.secrets[0].files[0].path"),
    ("spec.secrets.0.files", [FILE | {"mode": "0777"}], "spec.secrets[0].files[0].mode"),
    ("spec.secrets.0.files", [FILE | {"mode": 511}], "spec.secrets[0].files[0].mode"),
    ("spec.delivery.modes", [], "spec.delivery.modes"),
    ("spec.delivery.modes", ["ebpf", "ebpf"], "spec.delivery.modes"),
    ("spec.delivery.modes", ["ptrace"], "spec.delivery.modes"),
    ("spec.delivery.placement", "maybe", "spec.delivery.placement"),
    ("spec.delivery.onUnavailable", "panic", "spec.delivery.onUnavailable"),
    ("spec.delivery.containers", ["Not A Name"], "spec.delivery.containers[0]"),
    ("spec.delivery.preload.prefixes", ["etc/payments"], "spec.delivery.preload.prefixes[0]"),
    ("spec.delivery.preload.prefixes", ["/etc/../payments"], "spec.delivery.preload.prefixes[0]"),
    ("spec.delivery.preload.prefixes", ["/etc/a:b"], "spec.delivery.preload.prefixes[0]"),
    ("spec.delivery.preload.prefixes", ["/proc/self"], "spec.delivery.preload.prefixes[0]"),
    ("spec.access.from", "binaries", "spec.access.binaries"),
    ("spec.access.binaries", ["psql"], "spec.access.binaries[0]"),
    ("spec.access.ephemeralContainers", "perhaps", "spec.access.ephemeralContainers"),
    ("spec.rotation.pollInterval", "1ms", "spec.rotation.pollInterval"),
    ("spec.rotation.pollInterval", "soon", "spec.rotation.pollInterval"),
    ("spec.rotation.minInterval", "25h", "spec.rotation.minInterval"),
    ("spec.rotation.revokeAfter", "1s", "spec.rotation.revokeAfter"),
    ("spec.rotation.notify", {"signal": "SIGKILL"}, "spec.rotation.notify.signal"),
    ("spec.limits.maxFileBytes", "2Mi", "spec.limits.maxFileBytes"),
    ("spec.limits.openFiles", 0, "spec.limits.openFiles"),
    ("spec.limits.pod.files", 0, "spec.limits.pod.files"),
    ("spec.podSelector", {"matchExpressions": [{"key": "a", "operator": "In"}]}, "spec.podSelector.matchExpressions"),
    ("spec.podSelector", {"matchExpressions": [{"key": "a", "operator": "Is"}]}, "spec.podSelector.matchExpressions"),
    ("spec.acess", {}, "spec.acess"),
    ("spec.secrets.0.sources", {}, "spec.secrets[0].sources"),
]


@pytest.mark.parametrize(("path", "value", "field"), BAD)
def test_what_cannot_work_is_refused_with_the_field_named_by_the_server_and_by_our_reader(
    alone: Cluster, path: str, value: Any, field: str
) -> None:
    thing = changed(path, value)
    by_server, by_us = said_by_server(alone, thing), said_by_us(thing)
    assert by_server, "the API server accepts it"
    assert field in by_server
    assert by_us, "our reader accepts it"


GOOD = [
    ("spec.secrets.0.source", {"kubernetes": {"name": "db.v2"}}),
    ("spec.secrets.0.source", {"kubernetes": {"name": "db", "readAs": "agent"}}),
    ("spec.secrets.0.source", {"vault": VAULT | {"version": 3, "namespace": "admin/team"}}),
    ("spec.secrets.0.source", {"vault": VAULT | {"auth": {"method": "jwt", "mount": "k8s/east", "audience": "v"}}}),
    ("spec.secrets.0.source", {"vault": VAULT | {"path": "pki/issue/web", "parameters": {"common_name": "app.shop"}}}),
    ("spec.secrets.0.source", {"vault": APP_ROLE}),
    ("spec.secrets.0.files", [FILE | {"jsonPointer": "/a~1b/0", "decode": "base64"}]),
    ("spec.secrets.0.files", [SHOWN, {"path": "all", "template": '{"a": {{ . | json }}}'}]),
    ("spec.rotation.revokeAfter", "30s"),
    ("spec.secrets.0.files", [FILE | {"path": ".pgpass", "mode": "0400"}]),
    ("spec.secrets.0.files", [FILE | {"mode": 288}]),
    ("spec.delivery", {"modes": ["preload", "ebpf"], "placement": "require", "onUnavailable": "refuse"}),
    ("spec.delivery.containers", ["app", "migrate"]),
    ("spec.access", {"from": "binaries", "binaries": ["/usr/bin/psql"], "action": "kill"}),
    ("spec.access.ephemeralContainers", "allow"),
    ("spec.delivery", {"modes": ["preload"], "preload": {"prefixes": ["/etc/payments", "/opt/app.d/secrets"]}}),
    ("spec.rotation", {"pollInterval": "100ms", "minInterval": "1m30s", "notify": {"signal": "SIGHUP"}}),
    ("spec.limits", {"maxFileBytes": 65536, "openFiles": 1, "pod": {"bytes": "1Mi"}}),
    ("spec.podSelector", {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_can_work_is_taken_by_the_server_and_by_our_reader(alone: Cluster, path: str, value: Any) -> None:
    thing = changed(path, value)
    assert said_by_server(alone, thing) is None
    assert said_by_us(thing) is None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_taken_by_the_server_and_by_our_reader(alone: Cluster, path: Path) -> None:
    thing = yaml.safe_load(path.read_text())
    assert said_by_server(alone, thing) is None
    assert said_by_us(thing) is None


def test_a_refusal_reads_as_a_sentence_in_kubectl(kubectl: Kubectl) -> None:
    said = kubectl.refused("apply", "-f-", given=changed("spec.secrets.0.source", {}))
    assert "spec.secrets[0].source" in said
    assert "exactly one of file, vault and kubernetes" in said


def test_what_is_left_out_is_filled_in_and_shown(kubectl: Kubectl) -> None:
    kubectl.apply(interceptor("filled-in"))
    spec = kubectl.get("secretinterceptor", "filled-in")["spec"]
    filled = {"modes": ["ebpf"], "placement": "prefer", "onUnavailable": "keep", "preload": {}}
    assert {name: value for name, value in spec["delivery"].items() if name != "containers"} == filled
    assert spec["access"]["from"] == "app"
    assert spec["rotation"]["pollInterval"] == "1s"
    assert spec["rotation"]["revokeAfter"] == "5m"
    assert spec["secrets"][0]["files"][0]["mode"] in (288, "0440")


def test_what_the_server_keeps_is_read_by_us(alone: Cluster, kubectl: Kubectl) -> None:
    kubectl.apply(interceptor("read-back", "shop"))
    kept = kubectl.get("secretinterceptor", "read-back")
    assert read_interceptor(kept).metadata.name == "read-back"


def test_kubectl_get_shows_modes_access_and_what_is_known(kubectl: Kubectl) -> None:
    kubectl.apply(interceptor("columns"))
    heads, row = kubectl("get", "si", "columns").splitlines()
    assert heads.split() == ["NAME", "MODES", "FROM", "PODS", "ACCEPTED", "READY", "AGE"]
    assert row.split()[:3] == ["columns", '["ebpf"]', "app"]


def test_kubectl_explain_knows_every_field(kubectl: Kubectl) -> None:
    assert "last value" in kubectl("explain", "secretinterceptor.spec.delivery.onUnavailable")
    shown = kubectl("explain", "secretinterceptor.spec", "--recursive")
    for name in ("namespaceSelector", "podSelector", "secrets", "source", "placement", "ephemeralContainers", "limits"):
        assert name in shown


def test_kubectl_get_kernelsecret_lists_them(kubectl: Kubectl) -> None:
    kubectl.apply(interceptor("in-category"))
    assert "in-category" in kubectl("get", "kernelsecret", "--output=name")


def test_status_is_written_apart_from_the_spec(kubectl: Kubectl) -> None:
    kubectl.apply(interceptor("with-status"))
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "SpecCanWork",
        "message": "as a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 2,
    }
    secret = {"name": "db", "pods": 3, "upToDate": 2, "behind": 1, "failing": 0, "message": "1 pod reads version 6"}
    status = {"pods": 3, "conditions": [condition], "secrets": [secret]}
    patch = json.dumps({"status": status, "spec": {"access": {"from": "any"}}})
    kubectl("patch", "si", "with-status", "--type=merge", f"--patch={patch}")
    assert "status" not in kubectl.get("si", "with-status")
    kubectl("patch", "si", "with-status", "--type=merge", f"--patch={patch}", "--subresource=status")
    kept = kubectl.get("si", "with-status")
    assert (kept["status"]["pods"], kept["spec"]["access"]["from"]) == (3, "any")
    assert kept["status"]["secrets"] == [secret]
    assert kubectl("get", "si", "with-status").splitlines()[1].split()[3:5] == ["3", "True"]
    kubectl("wait", "si/with-status", "--for=condition=Accepted", "--timeout=5s")
