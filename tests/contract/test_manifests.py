"""The manifests say what the code says: names, ports, rights, scope and the settings of what they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.preload.judging import MOST_TEXT
from agent.sources.kubernetes.clients import AUDIENCE
from apiclient.pod_event import MOST_INSTANCE
from kernelsecret import names
from kernelsecret.interceptor import VaultAuth
from telemetry.options import misspelt
from webhook.options import OPTIONS, PREFIX
from webhook.policy.host_paths import OUR_PATHS
from webhook.settings import Settings

BASE = Path(__file__).parents[2] / "manifests" / "base"
FILES = sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
Object = dict[str, Any]


def loaded(path: Path) -> list[Object]:
    return [thing for thing in yaml.safe_load_all(path.read_text()) if thing]


OBJECTS = [thing for path in FILES for thing in loaded(path)]


def of(kind: str, name: str = "") -> list[Object]:
    return [thing for thing in OBJECTS if thing["kind"] == kind and name in ("", thing["metadata"]["name"])]


def one(kind: str, name: str) -> Object:
    (found,) = of(kind, name)
    return found


def hooks() -> list[Object]:
    return [
        hook
        for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
        for hook in one(kind, names.WEBHOOK_CONFIGURATION)["webhooks"]
    ]


def container() -> Object:
    (found,) = one("Deployment", names.SERVICE_WEBHOOK)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def strings(thing: object) -> Iterator[str]:
    if isinstance(thing, dict):
        for value in thing.values():
            yield from strings(value)
    elif isinstance(thing, list):
        for value in thing:
            yield from strings(value)
    elif isinstance(thing, str):
        yield thing


def test_kustomize_lists_every_file_and_nothing_else() -> None:
    (kustomization,) = loaded(BASE / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == [path.name for path in FILES]


def test_no_object_is_there_twice_and_each_says_whose_it_is() -> None:
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in OBJECTS]
    assert len(keys) == len(set(keys))
    for thing in OBJECTS:
        assert thing["metadata"]["labels"]["app.kubernetes.io/name"] == "kernelsecret", thing["metadata"]["name"]


def test_every_file_is_small() -> None:
    generated = {"crd.yaml"}
    assert all(len(path.read_text().splitlines()) <= 260 for path in FILES if path.name not in generated)


def test_objects_are_named_as_the_code_calls_them() -> None:
    assert one("Namespace", names.SYSTEM_NAMESPACE)
    assert {thing["metadata"]["name"] for thing in of("ServiceAccount")} == {names.ACCOUNT_WEBHOOK, names.ACCOUNT_AGENT}
    assert one("CSIDriver", names.DRIVER_NAME)
    assert one("CustomResourceDefinition", f"{names.RESOURCE_INTERCEPTORS}.{names.GROUP}")
    namespaced = {thing["metadata"]["namespace"] for thing in OBJECTS if "namespace" in thing["metadata"]}
    assert namespaced == {names.SYSTEM_NAMESPACE}
    pod = one("Deployment", names.SERVICE_WEBHOOK)["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == names.ACCOUNT_WEBHOOK


def test_the_driver_is_what_the_agent_expects_of_kubelet() -> None:
    spec = one("CSIDriver", names.DRIVER_NAME)["spec"]
    assert (spec["attachRequired"], spec["podInfoOnMount"], spec["requiresRepublish"]) == (False, True, True)
    assert spec["volumeLifecycleModes"] == ["Ephemeral"]
    # The agent says VOLUME_MOUNT_GROUP, so kubelet must not also change owners.
    assert spec["fsGroupPolicy"] == "None"


def test_kubelet_brings_a_token_for_each_that_pods_are_read_as_and_where_it_is_not_logged() -> None:
    spec = one("CSIDriver", names.DRIVER_NAME)["spec"]
    assert [request["audience"] for request in spec["tokenRequests"]] == [AUDIENCE, VaultAuth().audience]
    # The least that Kubernetes allows: what leaks, leaks for ten minutes.
    assert {request["expirationSeconds"] for request in spec["tokenRequests"]} == {600}
    assert spec["serviceAccountTokenInSecrets"] is True


def test_ports_lead_from_the_service_to_what_the_webhook_listens_on() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"admission": names.PORT_ADMISSION, "nodes": names.PORT_NODES}
    service = one("Service", names.SERVICE_WEBHOOK)["spec"]
    assert {port["port"]: ports[port["targetPort"]] for port in service["ports"]} == {
        443: names.PORT_ADMISSION,
        names.PORT_NODES: names.PORT_NODES,
    }
    template = one("Deployment", names.SERVICE_WEBHOOK)["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= template.items()
    for hook in hooks():
        assert (
            hook["clientConfig"]["service"].items()
            >= {
                "name": names.SERVICE_WEBHOOK,
                "namespace": names.SYSTEM_NAMESPACE,
                "port": 443,
            }.items()
        )


def selectors() -> list[Object]:
    policies = [policy["spec"]["matchConstraints"] for policy in of("ValidatingAdmissionPolicy")]
    return [
        thing["namespaceSelector"] for thing in [*hooks(), *policies] if "namespaceSelector" in thing and thing != {}
    ]


def test_namespaces_of_the_system_and_our_own_are_left_out_everywhere() -> None:
    found = selectors()
    assert len(found) == len([hook for hook in hooks() if hook["rules"][0]["apiGroups"] == [""]]) + 5
    for selector in found:
        assert {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": list(names.EXCLUDED_NAMESPACES),
        } in selector["matchExpressions"]


WEBHOOKS = {
    ("Mutating", "pods"): ("/mutate", {"pods"}, {"CREATE"}),
    ("Validating", "pods"): ("/validate", {"pods"}, {"CREATE"}),
    ("Validating", "updates"): ("/validate", {"pods", "pods/status"}, {"UPDATE"}),
    ("Validating", "ephemeral"): ("/validate", {"pods/ephemeralcontainers"}, {"UPDATE"}),
    ("Validating", "interceptors"): ("/validate", {"secretinterceptors"}, {"CREATE", "UPDATE"}),
    ("Validating", "bindings"): ("/bind", {"pods/binding", "bindings"}, {"CREATE"}),
}


def test_each_webhook_is_asked_about_what_it_answers() -> None:
    found = {}
    for kind in ("Mutating", "Validating"):
        for hook in one(f"{kind}WebhookConfiguration", names.WEBHOOK_CONFIGURATION)["webhooks"]:
            (rule,) = hook["rules"]
            path = hook["clientConfig"]["service"]["path"]
            name = hook["name"].removesuffix(f".{names.GROUP}")
            found[kind, name] = (path, set(rule["resources"]), set(rule["operations"]))
    assert found == WEBHOOKS


def test_only_bindings_may_go_on_without_an_answer_and_they_wait_the_least() -> None:
    for hook in hooks():
        is_hint = hook["clientConfig"]["service"]["path"] == "/bind"
        assert hook["failurePolicy"] == ("Ignore" if is_hint else "Fail")
        assert hook["timeoutSeconds"] == (1 if is_hint else 5)
        assert hook["sideEffects"] == ("NoneOnDryRun" if is_hint else "None")
        assert hook["admissionReviewVersions"] == ["v1"]
        assert hook["matchPolicy"] == "Equivalent"
        # Fail is for what is matched narrowly.
        assert is_hint or hook["matchConditions"]
    (mutating,) = one("MutatingWebhookConfiguration", names.WEBHOOK_CONFIGURATION)["webhooks"]
    assert mutating["reinvocationPolicy"] == "IfNeeded"


def test_every_policy_but_the_one_that_only_warns_refuses_on_failure() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of("ValidatingAdmissionPolicy")}
    bindings = {thing["spec"]["policyName"]: thing["spec"] for thing in of("ValidatingAdmissionPolicyBinding")}
    assert policies.keys() == bindings.keys()
    for name, spec in policies.items():
        only_warns = name == "kernelsecret-host-paths"
        assert spec["failurePolicy"] == ("Ignore" if only_warns else "Fail")
        assert bindings[name]["validationActions"] == (["Warn", "Audit"] if only_warns else ["Deny"])
        assert ("paramKind" in spec) == ("paramRef" in bindings[name])
        for rule in spec["validations"]:
            assert rule["reason"] == "Forbidden"
            said = f"{rule.get('message', '')} {rule.get('messageExpression', '')}"
            assert ";" in said, f"{name}: no remedy in {said}"
    assert bindings["kernelsecret-ephemeral"]["paramRef"]["parameterNotFoundAction"] == "Deny"


def test_every_name_of_ours_in_the_manifests_is_one_that_the_code_knows() -> None:
    known = {value for value in vars(names).values() if isinstance(value, str)}
    known |= {names.API_VERSION, f"{names.RESOURCE_INTERCEPTORS}.{names.GROUP}", f"{names.DRIVER_NAME}-reg.sock"}
    known |= {hook["name"] for hook in hooks()} | {names.GROUP}
    known.add(f"{names.LABEL_INJECT}={names.LABEL_INJECT_ENABLED}")
    for path in FILES:
        if path.name == "crd.yaml":
            continue
        for thing in loaded(path):
            for text in strings(thing):
                for name in re.findall(r"[a-z0-9.-]*kernelsecret\.io(?:/[a-z0-9-]+(?:=[a-z]+)?|-reg\.sock)?", text):
                    assert name in known, f"{path.name}: {name}"


def told(policy: str) -> dict[str, str]:
    (found,) = of("ValidatingAdmissionPolicy", policy)
    return {variable["name"]: variable["expression"] for variable in found["spec"]["variables"]}


def test_the_folders_that_pods_may_not_mount_are_those_of_the_code() -> None:
    inside = told("kernelsecret-pods")["inside"]
    assert sorted(re.findall(r"'([a-z._/-]+/)'", inside)) == sorted(f"{path[1:]}/" for path in OUR_PATHS)
    (condition,) = [hook["matchConditions"][0]["expression"] for hook in hooks() if "hostPath" in str(hook)]
    for path in OUR_PATHS:
        assert f"'{path[1:]}/'" in condition, path


def test_the_folders_that_pods_are_warned_of_are_those_in_which_ours_lie_but_the_log() -> None:
    above = told("kernelsecret-host-paths")["above"]
    ours = [path for path in OUR_PATHS if not path.startswith("/var/log/")]
    assert sorted(set(re.findall(r"'(/[a-z._/-]+)'", above))) == sorted(ours)


def rights(role: Object) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize("path", [path for path in FILES if path.name.startswith("rbac-")], ids=lambda path: path.name)
def test_no_right_is_a_wildcard_and_each_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert "*" not in path.read_text()
    uses = [number for number, line in enumerate(lines) if line.startswith("  - apiGroups:")]
    assert uses
    if path.name != "rbac-people.yaml":
        unexplained = [lines[number] for number in uses if not re.match(r"  # |  - |    ", lines[number - 1])]
        assert unexplained == []
        assert sum(line.startswith("  # ") for line in lines) >= len(uses) - 2


def test_the_accounts_can_do_what_they_do_and_no_more() -> None:
    view = {("", kind, verb) for kind in ("nodes", "namespaces", "pods") for verb in ("get", "list", "watch")}
    policy = {(names.GROUP, names.RESOURCE_INTERCEPTORS, verb) for verb in ("get", "list", "watch")}
    webhook = rights(one("ClusterRole", names.ACCOUNT_WEBHOOK))
    assert view | policy <= webhook
    assert (names.GROUP, f"{names.RESOURCE_INTERCEPTORS}/status", "patch") in webhook
    assert not {("", "secrets", verb) for verb in ("get", "list", "watch", "create", "update")} & webhook
    agent = rights(one("ClusterRole", names.ACCOUNT_AGENT))
    assert {right for right in agent if right[1] == "nodes"} <= {("", "nodes", "get"), ("", "nodes", "patch")}
    assert not [right for right in agent if right[1] in ("secrets", f"{names.RESOURCE_INTERCEPTORS}/status")]
    assert {verb for _, kind, verb in agent if kind == names.RESOURCE_INTERCEPTORS} == {"get", "list", "watch"}
    assert {right for right in agent if right[0] == "authentication.k8s.io"} == {
        ("authentication.k8s.io", "tokenreviews", "create")
    }
    assert {right for right in agent if right[1] == "events"} == {
        ("events.k8s.io", "events", "create"),
        ("events.k8s.io", "events", "patch"),
    }


def test_of_pods_an_agent_writes_one_annotation_and_nobody_else_writes_that() -> None:
    agent = rights(one("ClusterRole", names.ACCOUNT_AGENT))
    assert {right for right in agent if right[1].startswith("pods/")} == {("", "pods/status", "patch")}
    assert ("", "pods", "patch") not in agent
    (held,) = of("ValidatingAdmissionPolicy", "kernelsecret-agent-pods")
    assert told("kernelsecret-agent-pods")["key"] == f"'{names.ANNOTATION_UNAFFECTED}'"
    assert f"size(variables.new[variables.key]) <= {MOST_TEXT}" in " ".join(strings(held["spec"]["validations"]))
    for policy in ("kernelsecret-updates", "kernelsecret-pods"):
        (others,) = of("ValidatingAdmissionPolicy", policy)
        assert f"'{names.ANNOTATION_UNAFFECTED}'" in " ".join(strings(others["spec"]["validations"]))


def test_events_of_agents_are_held_to_the_name_that_they_write_them_in() -> None:
    (policy,) = of("ValidatingAdmissionPolicy", "kernelsecret-agent-events")
    assert f"object.reportingController == '{names.REPORTER}'" in " ".join(strings(policy["spec"]["validations"]))
    assert f"substring(0, {MOST_INSTANCE})" in " ".join(strings(policy["spec"]["variables"]))


@pytest.mark.parametrize(("file", "account"), [("read-as-pod", "api"), ("read-as-agent", names.ACCOUNT_AGENT)])
def test_the_examples_of_rights_give_one_secret_in_one_namespace(file: str, account: str) -> None:
    role, binding = loaded(BASE.parents[1] / "docs" / "examples" / "kubernetes" / f"{file}.yaml")
    (rule,) = role["rules"]
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get", "watch"]}
    assert (role["kind"], binding["kind"], binding["roleRef"]["kind"]) == ("Role", "RoleBinding", "Role")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert {one["metadata"]["namespace"] for one in (role, binding)} == {"payments"}
    assert [(subject["kind"], subject["name"]) for subject in binding["subjects"]] == [("ServiceAccount", account)]


def test_what_the_webhook_keeps_is_granted_by_name() -> None:
    role = one("Role", names.ACCOUNT_WEBHOOK)
    granted = {rule["resourceNames"][0]: rule["verbs"] for rule in role["rules"] if "resourceNames" in rule}
    followed, written = ["get", "list", "watch"], ["get", "update"]
    assert granted == {
        names.KEYS_OBJECT: [*followed, "update"],
        names.PUSH_KEYS_OBJECT: followed,
        names.NOTICES_OBJECT: written,
        names.TRUST_OBJECT: [*followed, "update"],
        names.LEASE_WEBHOOK: written,
    }
    unnamed = [rule for rule in role["rules"] if "resourceNames" not in rule]
    assert {verb for rule in unnamed for verb in rule["verbs"]} == {"create"}
    (objects,) = of("ValidatingAdmissionPolicy", "kernelsecret-webhook-objects")
    said = " ".join(strings(objects["spec"]["validations"]))
    for kind, made in (
        ("secrets", [names.KEYS_OBJECT]),
        ("configmaps", [names.TRUST_OBJECT, names.NOTICES_OBJECT]),
        ("leases", [names.LEASE_WEBHOOK]),
    ):
        assert f"'{kind}': {made}" in said
    configurations = [
        rule for rule in one("ClusterRole", names.ACCOUNT_WEBHOOK)["rules"] if "webhookconfig" in str(rule["resources"])
    ]
    assert [rule["resourceNames"] for rule in configurations] == [[names.WEBHOOK_CONFIGURATION]]


def test_nobody_but_cluster_admins_can_write_an_interceptor() -> None:
    for role in of("ClusterRole"):
        assert not [key for key in role["metadata"]["labels"] if "aggregate" in key]
        verbs = {verb for _, kind, verb in rights(role) if kind == names.RESOURCE_INTERCEPTORS}
        assert verbs <= {"get", "list", "watch"} | (
            {"patch"} if role["metadata"]["name"] == names.ACCOUNT_WEBHOOK else set()
        )


def variables() -> dict[str, str]:
    return {one["name"]: one.get("value", "a-name") for one in container()["env"]}


def test_the_webhook_is_run_with_settings_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert container()["command"] == ["kernelsecret-ctl", "webhook"]
    assert misspelt(variables(), OPTIONS, PREFIX) == {}
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.address.port == names.PORT_ADMISSION
    grace = one("Deployment", names.SERVICE_WEBHOOK)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= settings.drain_s + settings.finish_s + 5


def test_a_replica_leaves_the_service_before_it_stops() -> None:
    probe = container()["readinessProbe"]
    drain = int(variables()[f"{PREFIX}DRAIN_S"])
    assert probe["httpGet"] == {"scheme": "HTTPS", "path": "/readyz", "port": "admission"}
    assert probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] < drain
    assert container()["livenessProbe"]["httpGet"]["path"] == "/healthz"
    deployment = one("Deployment", names.SERVICE_WEBHOOK)["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = one("PodDisruptionBudget", names.SERVICE_WEBHOOK)["spec"]
    assert budget["minAvailable"] < deployment["replicas"]
    assert budget["selector"] == deployment["selector"]


def test_the_webhook_has_no_rights_on_its_node() -> None:
    pod = one("Deployment", names.SERVICE_WEBHOOK)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "volumes"} & set(pod)
