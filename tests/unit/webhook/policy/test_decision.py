"""Who gets secrets: every rule by a pod that it refuses, and what is allowed beside it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kernelsecret.names import EXCLUDED_NAMESPACES
from tests.unit.webhook.builders import NAME, NAMESPACE, OPTED_IN, body, interceptor, mutation_refusal, node, pod, view
from webhook.admission.answer import Outcome
from webhook.admission.mutate import mutate
from webhook.policy.decision import Decision, decide
from webhook.policy.pods import Pod, read_pod
from webhook.policy.steps import ALL, Doubt, Verdict
from webhook.policy.view import View

INJECT = "kernelsecret.io/inject"


def read(thing: Any) -> Pod:
    return read_pod(json.dumps(thing).encode())


def decision(thing: Any, seen: View | None = None, namespace: str = NAMESPACE) -> Decision:
    return decide(read(thing), namespace, seen or view(), explains=True)


@pytest.mark.parametrize("annotations", [{}, {INJECT: "false"}, {"other": "true"}])
def test_a_pod_that_does_not_ask_is_left_alone(annotations: dict[str, str]) -> None:
    answer = mutate(body(pod(annotations)), view())
    assert answer.outcome is Outcome.NOT_ASKED
    assert b'"allowed":true' in answer.body
    assert b"patch" not in answer.body


def test_a_pod_without_annotations_and_labels_is_left_alone() -> None:
    thing = pod()
    thing["metadata"] = {"name": "api"}
    assert not decision(thing).asked


@pytest.mark.parametrize("namespace", EXCLUDED_NAMESPACES)
def test_pods_of_system_namespaces_are_never_touched(namespace: str) -> None:
    seen = view(namespaces={namespace: OPTED_IN})
    assert decision(pod(), seen, namespace) == Decision(False, None, None, decision(pod(), seen, namespace).steps)


def test_a_mirror_pod_is_never_touched_and_its_author_is_told() -> None:
    found = decision(pod({INJECT: "true", "kubernetes.io/config.mirror": "0123"}))
    assert (found.injection, found.refusal) == (None, None)
    assert "static pod" in found.warnings[0]


def test_a_pod_that_asks_is_given_what_the_only_interceptor_has() -> None:
    found = decision(pod()).injection
    assert found is not None
    assert (found.interceptor.metadata.name, found.volume, found.has_volume) == (NAME, "kernelsecret", False)
    assert (found.containers, found.path) == (("app",), "/var/run/secrets/payments-db")


def test_each_rule_says_its_sentence_and_the_last_one_decides() -> None:
    said = decision(pod()).steps
    assert [step.rule.value for step in said] == ["opt-in", "namespace", "interceptor", "mode", "volume", "containers"]
    assert {step.verdict for step in said} == {Verdict.YES}
    refused = decision(pod(hostUsers=False)).steps
    assert [(step.rule.value, step.verdict) for step in refused][-1] == ("mode", Verdict.NO)


def selecting(label: str) -> Any:
    return {"matchLabels": {"app": label}}


@pytest.mark.parametrize(
    ("thing", "seen", "rule", "words"),
    [
        (pod(), view(namespaces={NAMESPACE: {}}), "namespace", ["kernelsecret.io/inject]: missing", "kubectl label"]),
        (pod(), view(namespaces={NAMESPACE: {INJECT: "true"}}), "namespace", ["'true', must be 'enabled'"]),
        (pod(), view(namespaces={}), "namespace", ["'payments' is not known"]),
        (pod(os={"name": "windows"}), view(), "os", ["spec.os.name", "Linux only"]),
        (pod({INJECT: "nothing"}), view(), "interceptor", ["no valid interceptor 'nothing'", "kubectl get"]),
        (pod({INJECT: "True"}), view(), "interceptor", ["no valid interceptor 'True'"]),
        (pod({INJECT: ""}), view(), "interceptor", ["no valid interceptor ''"]),
        (pod(), view(interceptor(podSelector=selecting("web"))), "interceptor", ["no interceptor selects the pod"]),
        (
            pod(),
            view(interceptor(), interceptor("second")),
            "interceptor",
            ["2 interceptors select the pod: payments-db, second", "instead of 'true'"],
        ),
        (
            pod({INJECT: NAME}),
            view(interceptor(podSelector=selecting("web"))),
            "interceptor",
            ["'payments-db': spec.podSelector: does not select the pod 'api-*'"],
        ),
        (
            pod({INJECT: NAME}),
            view(interceptor(namespaceSelector=selecting("web"))),
            "interceptor",
            ["'payments-db': spec.namespaceSelector: does not select the namespace 'payments'"],
        ),
        (pod(hostUsers=False), view(), "mode", ["spec.hostUsers", "idmapped"]),
        (
            pod({INJECT: "true", "kernelsecret.io/mode": "preload"}),
            view(),
            "mode",
            ["'preload' is not one of spec.delivery.modes", "(ebpf)", "'auto'"],
        ),
        (
            pod({INJECT: "true", "kernelsecret.io/mode": "preload"}),
            view(interceptor(delivery={"modes": ["ebpf", "preload"]})),
            "mode",
            ["spec.access.unenforced: mode `preload` cannot hold the access rule", "set it to `allow`"],
        ),
        (
            pod(),
            view(interceptor(delivery={"modes": ["preload", "ebpf"], "placement": "require"})),
            "mode",
            ["spec.access.unenforced: mode `preload` cannot hold the access rule", "set it to `allow`"],
        ),
        (pod(), view(nodes=[node(engine="tmpfs"), node("b", "")]), "placement", ["any of the 2 nodes", "`iter` or"]),
        (pod(), view(nodes=[node(engine="tmpfs")]), "placement", ["works on the only node", "`iter` or"]),
        (pod(nodeName="node-9"), view(), "placement", ["spec.nodeName", "no node 'node-9'"]),
        (
            pod(nodeName="node-1"),
            view(nodes=[node(engine="tmpfs")]),
            "placement",
            ["is 'tmpfs', not kernelsecret.io/engine `iter` or"],
        ),
        (pod(nodeName="node-1"), view(nodes=[node(engine="")]), "placement", ["kernelsecret.io/engine is missing"]),
    ],
)
def test_a_pod_that_cannot_be_given_what_it_asks_for_is_refused(
    thing: Any, seen: View, rule: str, words: list[str]
) -> None:
    found, message = mutation_refusal(thing, seen)
    assert found == rule
    assert message.startswith(f"kernelsecret refuses this (rule {rule}): ")
    for word in words:
        assert word in message


def test_an_interceptor_that_is_being_deleted_gives_nothing_more() -> None:
    ending = msgspec.structs.replace(
        interceptor(),
        metadata=msgspec.structs.replace(interceptor().metadata, deletion_timestamp="2026-01-01T00:00:00Z"),
    )
    assert "is being deleted" in mutation_refusal(pod({INJECT: NAME}), view(ending))[1]
    assert "no interceptor selects" in mutation_refusal(pod(), view(ending))[1]
    assert decision(pod(), view(ending, interceptor("second"))).injection is not None


@pytest.mark.parametrize(
    ("thing", "seen", "doubt"),
    [
        (pod(), view(namespaces={}), Doubt(namespace=NAMESPACE)),
        (pod(), view(namespaces={NAMESPACE: {}}), Doubt(namespace=NAMESPACE)),
        (pod({INJECT: "new"}), view(), Doubt(namespace=NAMESPACE, interceptor="new")),
        (pod(), view(interceptor(podSelector=selecting("x"))), Doubt(namespace=NAMESPACE, interceptor=ALL)),
        (pod(nodeName="node-9"), view(), Doubt(node="node-9")),
        (pod(), view(nodes=[node(engine="")]), Doubt(node=ALL)),
        (pod({INJECT: NAME, "kernelsecret.io/mode": "preload"}), view(), Doubt(interceptor=NAME)),
        (pod(), view(interceptor(delivery={"modes": ["preload"]})), Doubt(interceptor=NAME)),
        (pod(), view(interceptor(delivery={"containers": ["x"]})), Doubt(interceptor=NAME)),
        (pod({INJECT: NAME, "kernelsecret.io/containers": "x"}), view(), None),
        (pod(hostUsers=False), view(), Doubt(interceptor=NAME)),
        (pod(os={"name": "windows"}), view(), None),
    ],
)
def test_a_refusal_that_a_late_watch_could_explain_names_what_to_read_anew(
    thing: Any, seen: View, doubt: Doubt | None
) -> None:
    assert mutate(body(thing), seen).doubt == doubt


def test_what_others_wrote_is_shown_escaped_and_short() -> None:
    _, message = mutation_refusal(pod({INJECT: "\u202e\n" + "x" * 500}), view())
    assert message.isprintable()
    assert len(message) < 500


def test_host_network_read_only_root_and_process_sharing_change_nothing() -> None:
    thing = pod(hostNetwork=True, shareProcessNamespace=True, hostUsers=True, os={"name": "linux"})
    thing["spec"]["containers"][0]["securityContext"] = {"readOnlyRootFilesystem": True}
    assert decision(thing).steps == decision(pod()).steps


@pytest.mark.parametrize("thing", [pod(), pod(hostUsers=False), pod({INJECT: "nothing"}), pod({})])
def test_what_is_decided_is_the_same_where_nobody_asks_for_the_reasons(thing: Any) -> None:
    told, plain = decision(thing), decide(read(thing), NAMESPACE, view())
    assert (plain.asked, plain.injection is None, plain.warnings) == (
        told.asked,
        told.injection is None,
        told.warnings,
    )
    assert str(plain.refusal) == str(told.refusal)
    assert plain.steps == (() if plain.asked else told.steps)
