"""What admission would do with a pod and why, for people and programs to read. Pure; the shape is documented."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kernelsecret.names import ANNOTATION_INTERCEPTOR, ANNOTATION_UNAFFECTED
from kernelsecret.problems import quoted
from webhook.policy.decision import Decision
from webhook.policy.pods import Pod
from webhook.policy.rules import pod_create_problems, pod_problems
from webhook.policy.steps import Refusal, Step
from webhook.policy.view import View
from webhook.policy.volumes import holds_secrets


class Outcome(StrEnum):
    """What would become of the pod if it were created now."""

    INJECTED = "injected"
    REFUSED = "refused"
    NOT_ASKED = "not-asked"


class RuleSaid(msgspec.Struct, frozen=True):
    """One rule that had a say: `verdict` is yes, no or note."""

    rule: str
    verdict: str
    text: str


class RuleRefused(msgspec.Struct, frozen=True):
    """One rule that refuses, with the field, the reason and the remedy."""

    rule: str
    field: str
    why: str
    fix: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All that decided. `differences` says where a pod that runs is not what it would be made now, `unaffected` which
    of its programs the shim does not reach and why, as the agent wrote it on the pod."""

    namespace: str
    pod: str
    live: bool
    opted_in: bool
    outcome: Outcome
    interceptor: str = ""
    mode: str = ""
    engines: tuple[str, ...] = ()
    idmapped: bool = False
    containers: tuple[str, ...] = ()
    mount_path: str = ""
    decision: str = ""
    rules: tuple[RuleSaid, ...] = ()
    refusals: tuple[RuleRefused, ...] = ()
    warnings: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    unaffected: str = ""


def explain(pod: Pod, namespace: str, view: View, *, live: bool = False) -> Explanation:
    """`live`: the pod exists, and is as the API server has it."""
    refusals, decision = pod_problems(pod, namespace, view, explains=True)
    made = Explanation(
        namespace=namespace,
        pod=pod.display_name,
        live=live,
        opted_in=decision.asked,
        outcome=_outcome(refusals, decision),
        rules=tuple(map(_said, decision.steps)),
        refusals=tuple(map(_refused, refusals)),
        warnings=decision.warnings,
        differences=tuple(_differences(pod, namespace, view, decision)) if live else (),
        unaffected=pod.annotations.get(ANNOTATION_UNAFFECTED, "") if live else "",
    )
    injection = decision.injection
    if injection is None:
        return made
    return msgspec.structs.replace(
        made,
        interceptor=injection.interceptor.metadata.name,
        mode=injection.choice.mode.value,
        engines=injection.choice.needs.engines,
        idmapped=injection.choice.needs.idmapped,
        containers=injection.containers,
        mount_path=injection.path,
        decision=injection.sentence,
    )


def _outcome(refusals: list[Refusal], decision: Decision) -> Outcome:
    if refusals:
        return Outcome.REFUSED
    return Outcome.INJECTED if decision.injection else Outcome.NOT_ASKED


def _differences(pod: Pod, namespace: str, view: View, decision: Decision) -> list[str]:
    """Where a pod that runs is not what admission would make of it now."""
    if holds_secrets(pod):
        if decision.injection is None:
            had = quoted(pod.annotations.get(ANNOTATION_INTERCEPTOR, ""))
            return [f"it holds the files of the interceptor {had}, and would be given none now"]
    elif decision.injection is not None:
        return ["it holds no files: it was created before it, or its namespace, asked for them; create it anew"]
    else:
        return []
    return [str(refusal.problem) for refusal in pod_create_problems(pod, namespace, view)[0]]


def _said(step: Step) -> RuleSaid:
    return RuleSaid(step.rule.value, step.verdict.value, step.text)


def _refused(refusal: Refusal) -> RuleRefused:
    problem = refusal.problem
    return RuleRefused(refusal.rule.value, problem.field, problem.why, problem.fix)
