"""What `/validate` refuses: forged status, changes after creation, our driver and folders, debuggers, interceptors."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest

from kernelsecret.names import EXCLUDED_NAMESPACES
from tests.unit.contract.builders import example
from tests.unit.webhook.builders import (
    NAMESPACE,
    OPTED_IN,
    interceptor,
    mutated,
    node,
    pod,
    refusal,
    response,
    validation,
    view,
)
from webhook.admission.answer import Outcome
from webhook.policy.steps import Doubt

INJECT = "kernelsecret.io/inject"
INJECTED = mutated(pod())
INTERCEPTORS = "secretinterceptors.kernelsecret.io"


def changed(thing: Any, path: str, value: Any) -> Any:
    """A copy with what a path of JSON Pointer tokens leads to set, or removed with None."""
    made = copy.deepcopy(thing)
    at, (*way, last) = made, path.split(" ")
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if value is None:
        del at[int(last) if isinstance(at, list) else last]
    else:
        at[last] = value
    return made


def without(path: str) -> Any:
    return changed(INJECTED, path, None)


@pytest.mark.parametrize(
    ("thing", "rule", "words"),
    [
        (pod(), "injected", ["asks for secrets and was given none"]),
        (without("spec volumes 1"), "injected", ["spec.volumes: our volume is missing"]),
        (without("spec containers 0 volumeMounts 1"), "injected", ["not mounted in 'app'"]),
        (without("metadata labels kernelsecret.io/injected"), "status", ["is missing, but what the pod has is 'true'"]),
        (without("metadata annotations kernelsecret.io/interceptor"), "status", ["'payments-db'"]),
        (
            changed(INJECTED, "metadata annotations kernelsecret.io/interceptor", "other"),
            "status",
            ["metadata.annotations[kernelsecret.io/interceptor]: is 'other'"],
        ),
        (
            changed(INJECTED, "metadata annotations kernelsecret.io/chosen-mode", "vault-agent"),
            "status",
            ["kernelsecret.io/chosen-mode]: is 'vault-agent', but what the pod has is 'ebpf'"],
        ),
        (
            changed(INJECTED, "metadata annotations kernelsecret.io/injected-containers", "app,x"),
            "status",
            ["is 'app,x', but what the pod has is 'app'"],
        ),
        (without(f"metadata annotations {INJECT}"), "status", ["does not opt in", "spec.volumes[1].csi.driver"]),
        (pod({"kernelsecret.io/interceptor": "x"}), "status", ["written by admission alone"]),
        (pod({}, volumes=INJECTED["spec"]["volumes"]), "driver", ["spec.volumes[1].csi.driver"]),
        (pod({INJECT: "false"}, volumes=INJECTED["spec"]["volumes"]), "driver", ["annotate the pod"]),
    ],
)
def test_a_new_pod_that_is_not_what_admission_makes_of_it_is_refused(thing: Any, rule: str, words: list[str]) -> None:
    found, message = refusal(validation(thing))
    assert found == rule
    for word in words:
        assert word in message


def test_a_pod_that_was_injected_and_one_that_never_asked_are_allowed() -> None:
    for thing in (INJECTED, pod({}), pod({INJECT: "false"})):
        answer = validation(thing)
        assert (answer.outcome, response(answer)["allowed"]) == (Outcome.ALLOWED, True)


def test_a_mirror_pod_may_pass_but_not_with_our_driver_or_status() -> None:
    mirror = {"kubernetes.io/config.mirror": "0123"}
    assert validation(pod({INJECT: "true", **mirror})).outcome is Outcome.ALLOWED
    forged = changed(INJECTED, "metadata annotations kubernetes.io/config.mirror", "0123")
    assert refusal(validation(forged))[0] == "status"
    assert refusal(validation(pod(mirror, volumes=INJECTED["spec"]["volumes"])))[0] == "driver"


def test_where_placement_is_required_the_affinity_must_still_be_there() -> None:
    seen = view(interceptor(delivery={"placement": "require"}))
    made = mutated(pod(), seen)
    assert validation(made, seen).outcome is Outcome.ALLOWED
    assert "spec.affinity: placement is `require`" in refusal(validation(changed(made, "spec affinity", None), seen))[1]


def test_a_node_that_came_between_mutation_and_validation_refuses_nobody() -> None:
    made = mutated(pod())
    assert validation(made, view(nodes=[node(), node("new", "")])).outcome is Outcome.ALLOWED


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("/run/kernelsecret", True),
        ("/var/run/kernelsecret/", True),
        ("/run/kernelsecret/private", True),
        ("/run//./kernelsecret", True),
        ("/etc/kernelsecret/tls", True),
        ("/var/log/kernelsecret", True),
        ("/var/lib/kubelet/plugins/csi.kernelsecret.io", True),
        ("/var/lib/kubelet/plugins_registry/csi.kernelsecret.io-reg.sock", True),
        ("/", False),
        ("/var/run", False),
        ("/run", False),
        ("/etc", False),
        ("/var/lib/kubelet", False),
        ("/srv/../run/kernelsecret", True),
        ("/var/log", False),
        ("/srv", False),
        ("/run/kernelsecret-other", False),
        ("/var/lib/kubelet/pods", False),
        ("/var/run/docker.sock", False),
    ],
)
def test_folders_of_the_agent_are_not_shown_to_pods(path: str, refused: bool) -> None:
    thing = pod({}, volumes=[{"name": "h", "hostPath": {"path": path}}])
    answer = validation(thing)
    assert (answer.outcome is Outcome.REFUSED) == refused
    if refused:
        rule, message = refusal(answer)
        assert rule == "host-path"
        assert "spec.volumes[0].hostPath.path: " in message


def test_a_host_path_without_a_path_is_left_to_the_api_server() -> None:
    for missing in ({}, {"path": ""}, {"path": None}):
        assert validation(pod({}, volumes=[{"name": "h", "hostPath": missing}])).outcome is Outcome.ALLOWED


def test_several_refusals_are_in_doubt_only_together() -> None:
    ours = [{"name": "h", "hostPath": {"path": "/run/kernelsecret"}}]
    wanted = {INJECT: "new"}
    assert validation(pod(wanted)).doubt == Doubt(namespace=NAMESPACE, interceptor="new")
    assert validation(pod(wanted, volumes=ours)).doubt is None


def test_opting_in_opens_no_folder_of_the_node() -> None:
    thing = changed(
        INJECTED,
        "spec volumes",
        [*INJECTED["spec"]["volumes"], {"name": "h", "hostPath": {"path": "/run/kernelsecret"}}],
    )
    assert refusal(validation(thing))[0] == "host-path"


@pytest.mark.parametrize("namespace", EXCLUDED_NAMESPACES)
def test_system_namespaces_are_not_judged(namespace: str) -> None:
    thing = pod({}, volumes=[{"name": "h", "hostPath": {"path": "/run/kernelsecret"}}])
    seen = view(namespaces={namespace: OPTED_IN})
    assert validation(thing, seen, namespace=namespace).outcome is Outcome.ALLOWED
    update = validation(INJECTED, seen, namespace=namespace, operation="UPDATE", old=pod())
    assert update.outcome is Outcome.ALLOWED


def update(old: Any, new: Any, **more: Any) -> Any:
    return validation(new, old=old, operation="UPDATE", **more)


@pytest.mark.parametrize("resource", ["pods", "pods/status", "pods/ephemeralcontainers"])
@pytest.mark.parametrize(
    ("path", "value", "rule", "words"),
    [
        ("annotations kernelsecret.io/interceptor", "x", "status", "'payments-db' was changed to 'x'"),
        ("annotations kernelsecret.io/chosen-mode", None, "status", "'ebpf' was removed"),
        ("labels kernelsecret.io/injected", None, "status", "'true' was removed"),
        (f"annotations {INJECT}", "false", "immutable", "holds secrets"),
        (f"annotations {INJECT}", None, "immutable", "'true' was removed"),
        ("annotations kernelsecret.io/mode", "auto", "immutable", "'auto' was added"),
        ("annotations kernelsecret.io/containers", "app", "immutable", "create it anew"),
    ],
)
def test_what_a_pod_was_given_cannot_be_rewritten(
    path: str, value: str | None, rule: str, words: str, resource: str
) -> None:
    found, message = refusal(update(INJECTED, changed(INJECTED, f"metadata {path}", value), resource=resource))
    assert found == rule
    assert words in message


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("annotations kernelsecret.io/interceptor", "x", "status"),
        ("labels kernelsecret.io/injected", "true", "status"),
        (f"annotations {INJECT}", "true", "immutable"),
    ],
)
def test_a_pod_that_was_not_injected_cannot_be_made_to_look_so(path: str, value: str, rule: str) -> None:
    assert refusal(update(pod({}), changed(pod({}), f"metadata {path}", value)))[0] == rule


def test_everything_else_in_a_pod_may_change_whatever_became_of_its_right() -> None:
    gone = view(namespaces={NAMESPACE: {}})
    for old in (INJECTED, pod(), pod({})):
        new = changed(old, "metadata labels team", "a")
        new = changed(new, "metadata annotations other", "b")
        assert validation(new, gone, old=old, operation="UPDATE").outcome is Outcome.ALLOWED


def test_what_was_forged_while_nobody_looked_can_be_taken_away() -> None:
    old = pod({INJECT: "true", "kernelsecret.io/interceptor": "x", "kernelsecret.io/mode": "ebpf"})
    assert update(old, pod({INJECT: "false"})).outcome is Outcome.ALLOWED
    assert update(old, pod({})).outcome is Outcome.ALLOWED


def test_pods_without_volumes_annotations_and_labels_are_judged_like_others() -> None:
    bare = {"metadata": {"name": "api-0"}, "spec": {"containers": [{"name": "app"}]}}
    assert validation(bare).outcome is Outcome.ALLOWED
    assert update(bare, changed(bare, "metadata labels", {"a": "b"})).outcome is Outcome.ALLOWED
    assert debug(bare).outcome is Outcome.ALLOWED
    assert refusal(update(bare, changed(bare, "metadata annotations", {INJECT: "true"})))[0] == "immutable"
    asking = changed(bare, "metadata", {"annotations": {INJECT: "true"}, "labels": {"app": "api"}})
    assert refusal(validation(asking))[0] == "injected"


def debugged(thing: Any) -> Any:
    return changed(thing, "spec ephemeralContainers", [{"name": "debugger", "image": "busybox"}])


def debug(thing: Any, seen: Any = None) -> Any:
    more = {"operation": "UPDATE", "old": thing, "resource": "pods/ephemeralcontainers"}
    return validation(debugged(thing), seen, **more)


def test_a_debugger_in_a_pod_that_holds_secrets_is_refused_with_the_way_out() -> None:
    rule, message = refusal(debug(INJECTED))
    assert rule == "ephemeral"
    assert "spec.ephemeralContainers[0]: 'debugger' would reach the files of the interceptor 'payments-db'" in message
    assert "spec.access.ephemeralContainers: allow" in message


def test_a_debugger_is_allowed_where_the_interceptor_allows_it_or_no_secret_is() -> None:
    assert debug(pod()).outcome is Outcome.ALLOWED
    allows = view(interceptor(access={"ephemeralContainers": "allow"}))
    assert debug(INJECTED, allows).outcome is Outcome.ALLOWED


def test_a_debugger_is_refused_where_the_interceptor_is_gone_and_it_is_said_what_to_read_anew() -> None:
    answer = debug(INJECTED, view(interceptor("other")))
    assert answer.doubt == Doubt(interceptor="payments-db")
    assert "which is not there to allow it" in refusal(answer)[1]


def test_a_debugger_that_is_there_already_is_no_new_one() -> None:
    old = debugged(INJECTED)
    new = changed(old, "metadata annotations other", "x")
    answer = validation(new, old=old, operation="UPDATE", resource="pods/ephemeralcontainers")
    assert answer.outcome is Outcome.ALLOWED


def judged(thing: Any, **more: Any) -> Any:
    return validation(thing, resource=INTERCEPTORS, namespace="", **more)


def spec_changed(path: str, value: Any) -> Any:
    return changed(example(), f"spec {path}", value)


def test_an_interceptor_that_works_is_allowed() -> None:
    answer = judged(example())
    assert (answer.outcome, answer.name) == (Outcome.ALLOWED, "payments-db")
    assert "warnings" not in response(answer)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (spec_changed("secrets 0 source", {"vault": {"path": "kv/x"}}), "spec.secrets[0].source.vault.role: empty"),
        (spec_changed("secrets 0 files 0 key", ""), "spec.secrets[0].files[0]: needs exactly one of key and template"),
        (
            spec_changed("delivery", {"modes": ["preload"]}),
            "spec.access.unenforced: mode `preload` cannot hold the access rule, and that is not waived",
        ),
        (
            changed(spec_changed("delivery", {"modes": ["vault-agent"]}), "spec access", {"unenforced": "allow"}),
            "spec.secrets[0].source",
        ),
        (
            spec_changed("delivery", {"modes": ["preload", "ebpf"], "placement": "require"}),
            "and it is the one that spec.delivery.placement requires",
        ),
        (
            changed(example(), "metadata name", "kubernetes.io"),
            "metadata.name: 'kubernetes.io' has a meaning of its own",
        ),
        (spec_changed("limits", {"pod": {"files": 1}}), "spec.limits.pod.files: 1, but spec.secrets has 2 files"),
        (spec_changed("limits", {"namespace": {"files": 1}}), "spec.limits.namespace.files: 1"),
        (spec_changed("secrets 0 files 1", None) | {"kind": "Other"}, "kind: 'Other'"),
        (spec_changed("typo", 1), "spec.typo: no such field"),
        (spec_changed("secrets", []), "spec.secrets: empty; name at least one secret"),
        (changed(example(), "spec", None), "spec: missing"),
        (spec_changed("access", {"from": "binaries"}), "spec.access.binaries: empty"),
        (
            spec_changed("secrets 0 files", [{"path": "a", "key": "k"}, {"path": "a", "key": "l"}]),
            "spec.secrets[0].files[1].path: 'a' is also spec.secrets[0].files[0].path",
        ),
    ],
)
def test_an_interceptor_that_cannot_work_is_refused_with_the_field(thing: Any, words: str) -> None:
    rule, message = refusal(judged(thing))
    assert rule == "spec"
    assert words in message


def test_every_problem_of_an_interceptor_is_named_at_once() -> None:
    thing = changed(spec_changed("secrets", []), "spec delivery", {"modes": []})
    message = refusal(judged(thing))[1]
    assert "spec.secrets: empty" in message
    assert "spec.delivery.modes: empty" in message


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (spec_changed("delivery", {"modes": ["ebpf", "preload"]}), "preload is passed over"),
        (spec_changed("access", {"unenforced": "allow"}), "kubectl exec, can read the files"),
        (
            spec_changed("secrets 0 source", {"kubernetes": {"name": "db", "readAs": "agent"}}),
            "spec.secrets[0].source.kubernetes.readAs is agent: every pod that is given this reads with the agent's",
        ),
        (
            spec_changed(
                "secrets 0 source", {"vault": {"path": "kv/x", "auth": {"method": "appRole", "credential": "shop"}}}
            ),
            "spec.secrets[0].source.vault.auth.method is appRole: every pod that is given this reads with the agent's",
        ),
    ],
)
def test_what_an_author_should_know_comes_as_a_warning(thing: Any, words: str) -> None:
    said = response(judged(thing))
    assert said["allowed"]
    assert words in said["warnings"][0]


@pytest.mark.parametrize("source", [{"vault": {"path": "kv/x", "role": "r"}}, {"kubernetes": {"name": "db"}}])
def test_what_a_pod_reads_with_its_own_right_comes_without_a_warning(source: Any) -> None:
    assert "warnings" not in response(judged(spec_changed("secrets 0 source", source)))


def test_a_source_that_this_version_does_not_serve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhook.policy.judging.SERVED_SOURCES", ("file", "vault"))
    rule, message = refusal(judged(spec_changed("secrets 0 source", {"kubernetes": {"name": "db"}})))
    assert rule == "spec"
    assert "spec.secrets[0].source.kubernetes: is not served by this version, which has file, vault" in message


def test_an_invalid_interceptor_can_still_be_labelled_and_deleted_but_not_changed_for_worse() -> None:
    bad = spec_changed("secrets", [])
    labelled = changed(bad, "metadata labels", {"a": "b"})
    assert judged(labelled, old=bad, operation="UPDATE").outcome is Outcome.ALLOWED
    ending = changed(example(), "metadata deletionTimestamp", "2026-01-01T00:00:00Z")
    assert judged(changed(ending, "spec secrets", []), old=ending, operation="UPDATE").outcome is Outcome.ALLOWED
    assert judged(bad, old=example(), operation="UPDATE").outcome is Outcome.REFUSED
    assert judged(labelled).outcome is Outcome.REFUSED


@pytest.mark.parametrize("thing", [[], "text", 5, {"metadata": []}, {"metadata": {"name": {}}}, {"spec": None}])
def test_what_is_no_interceptor_is_denied(thing: Any) -> None:
    assert not response(judged(thing))["allowed"]


def test_generations_grow_with_what_decides_and_status_does_not() -> None:
    known = view().interceptors
    before = known.generation
    one = interceptor()
    known.put(msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, resource_version="7")))
    known.remove("never there")
    assert known.generation == before
    known.put(interceptor(podSelector={}))
    assert known.generation == before + 1
    assert json.dumps(sorted(each.metadata.name for each in known)) == '["payments-db"]'
