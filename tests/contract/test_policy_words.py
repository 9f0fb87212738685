"""The admission policies say what the webhook says, so that a refusal reads the same whoever was there to say it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.contract.test_manifests import of
from tests.unit.webhook.builders import NAMESPACE, OPTED_IN, mutated, pod, refusal, validation, view
from webhook.admission.validate import _JUDGES
from webhook.policy.view import FixedView

OURS = {"name": "x", "csi": {"driver": "csi.kernelsecret.io", "readOnly": True}}
INJECTED = mutated(pod())
LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def templates() -> list[list[str]]:
    """The messages of all policies: the pieces between which a name or a number stands."""
    found = []
    for policy in of("ValidatingAdmissionPolicy"):
        for rule in policy["spec"]["validations"]:
            if "messageExpression" in rule:
                found.append([left or right for left, right in LITERAL.findall(rule["messageExpression"])])
            else:
                found.append([rule["message"]])
    return found


def fits(message: str, pieces: list[str]) -> bool:
    """Whether a message is the pieces in their order; what is one word is a key that is looked up, or a condition."""
    at = 0
    for piece in pieces:
        if " " not in piece.strip():
            continue
        at = message.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def host_path(path: str) -> dict[str, Any]:
    return {"name": "host", "hostPath": {"path": path}}


def without(part: str, name: str) -> Any:
    """An injected pod without one thing that admission wrote."""
    made = mutated(pod())
    if part == "volumes":
        made["spec"]["volumes"] = [volume for volume in made["spec"]["volumes"] if volume["name"] != name]
        made["spec"]["containers"][0]["volumeMounts"].pop()
    else:
        del made["metadata"][part][name]
    return made


CASES: dict[str, tuple[Any, FixedView]] = {
    "a pod that asks in a namespace without the label": (pod(), view(namespaces={NAMESPACE: {}})),
    "a forged annotation": (pod({"kernelsecret.io/chosen-mode": "ebpf"}), view()),
    "our driver in a pod that does not ask": (pod({}, volumes=[OURS]), view()),
    "a pod that went past the webhook": (pod(), view()),
    "a pod whose volume was taken away": (without("volumes", "kernelsecret"), view()),
    "a folder of ours": (pod({}, volumes=[host_path("/run/kernelsecret")]), view()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_policy_has_the_words_of_the_webhook(case: str) -> None:
    thing, seen = CASES[case]
    _, message = refusal(validation(thing, seen))
    assert message.startswith("kernelsecret refuses this (rule ")
    assert [pieces for pieces in templates() if fits(message, pieces)], message


@pytest.mark.parametrize(
    ("old", "name", "value"),
    [
        (INJECTED, "kernelsecret.io/interceptor", "other"),
        (INJECTED, "kernelsecret.io/mode", "ebpf"),
        (pod({}), "kernelsecret.io/inject", "true"),
        (pod({}), "kernelsecret.io/interceptor", "payments-db"),
    ],
)
def test_a_policy_has_the_reason_and_the_remedy_of_a_refused_change(old: Any, name: str, value: str) -> None:
    new = {**old, "metadata": {**old["metadata"], "annotations": {**old["metadata"]["annotations"], name: value}}}
    _, message = refusal(validation(new, old=old, operation="UPDATE"))
    # What it was and is now is the webhook's to say; the policies say that it was changed.
    reason = message.partition(", but ")[2]
    assert reason
    assert [pieces for pieces in templates() if reason in "".join(pieces)], reason


def test_a_policy_has_the_reason_and_the_remedy_of_a_refused_debugger() -> None:
    debugged = {**INJECTED, "spec": {**INJECTED["spec"], "ephemeralContainers": [{"name": "dbg", "image": "x"}]}}
    answer = validation(
        debugged,
        view(namespaces={NAMESPACE: OPTED_IN}),
        old=INJECTED,
        operation="UPDATE",
        resource="pods/ephemeralcontainers",
    )
    reason = refusal(answer)[1].partition(" would reach")[2]
    interceptor = re.search(r"the interceptor '([^']+)'", reason)
    assert interceptor is not None
    (pieces,) = [pieces for pieces in templates() if "rule ephemeral" in pieces[0]]
    assert reason.replace(interceptor[1], "") in "".join(pieces)


def test_the_webhook_answers_all_that_its_configurations_ask() -> None:
    (configuration,) = of("ValidatingWebhookConfiguration")
    asked = {
        (operation, resource if group == "" else f"{resource}.{group}")
        for hook in configuration["webhooks"]
        if hook["clientConfig"]["service"]["path"] == "/validate"
        for rule in hook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    assert asked == set(_JUDGES)
