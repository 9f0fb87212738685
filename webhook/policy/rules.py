"""What `/validate` refuses: pods that carry what they were not given, and interceptors that cannot work. Pure.

Rules about an update compare: a pod that runs is never judged anew, because a refusal would only keep controllers from
finishing their work on it. When its right has ended, it is the agent that closes its files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kernelsecret.interceptor import EphemeralContainers, Mode, Placement
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_CONTAINERS,
    ANNOTATION_DECISION,
    ANNOTATION_INJECT,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_MODE,
    EXCLUDED_NAMESPACES,
    LABEL_INJECTED,
    LABEL_INJECTED_YES,
)
from kernelsecret.problems import quoted
from webhook.policy.decision import Decision, Injection, asks, decide
from webhook.policy.host_paths import host_path_refusals
from webhook.policy.lookup import FIELD_INJECT
from webhook.policy.patch import node_affinity, status_annotations
from webhook.policy.pods import Pod
from webhook.policy.steps import Doubt, Refusal, Rule
from webhook.policy.vault_agent.forged import changed, differences, leftovers
from webhook.policy.view import View
from webhook.policy.volumes import given_by, holds_secrets

STATUS_ANNOTATIONS: Final = (
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_DECISION,
)
WISHES: Final = (ANNOTATION_INJECT, ANNOTATION_MODE, ANNOTATION_CONTAINERS)


def pod_create_problems(pod: Pod, namespace: str, view: View) -> tuple[list[Refusal], Decision]:
    """What is wrong with a pod after all mutating webhooks, and what would be decided about it now."""
    refusals, decision = pod_problems(pod, namespace, view)
    if decision.injection is not None:
        refusals += _not_as_decided(pod, decision.injection, view)
    return refusals, decision


def pod_problems(pod: Pod, namespace: str, view: View, *, explains: bool = False) -> tuple[list[Refusal], Decision]:
    """The same of a pod that admission has not seen yet, so that it may still lack what it is to be given."""
    decision = decide(pod, namespace, view, explains=explains)
    if namespace in EXCLUDED_NAMESPACES:
        return [], decision
    refusals = list(host_path_refusals(pod.spec))
    if decision.refusal is not None:
        refusals.append(decision.refusal)
    elif decision.injection is None:
        refusals += _without_asking(pod)
    return refusals, decision


def _without_asking(pod: Pod) -> Iterator[Refusal]:
    """What only a pod that opted in may have."""
    opt_in = f"annotate the pod with {ANNOTATION_INJECT}, or remove it"
    for field, value in _status(pod):
        if value is not None:
            yield Refusal(Rule.STATUS, field, "is written by admission alone, and this pod does not opt in", opt_in)
    for index, volume in enumerate(pod.spec.volumes or ()):
        if volume.is_ours:
            at = f"spec.volumes[{index}].csi.driver"
            yield Refusal(Rule.DRIVER, at, "is for pods that opt in, and this one does not", opt_in)


def _not_as_decided(pod: Pod, injection: Injection, view: View) -> Iterator[Refusal]:
    """Where the pod is not what our patch makes of it."""
    found = dict(_status(pod))
    mode = injection.choice.mode
    if not injection.has_volume and not any(found.values()):
        why = "the pod asks for secrets and was given none: the webhook was passed over, or what it did was undone"
        fix = "create the pod again; if that does not help, look for another webhook that takes volumes away"
        yield Refusal(Rule.INJECTED, FIELD_INJECT, why, fix)
        return
    lacking = [place.name for place in injection.to_mount]
    if not injection.has_volume:
        yield Refusal(Rule.INJECTED, "spec.volumes", "our volume is missing", "create the pod again")
    elif lacking:
        why = f"our volume is not mounted in {', '.join(map(quoted, lacking))}"
        yield Refusal(Rule.INJECTED, "spec.containers", why, "create the pod again")
    elif injection.extra:
        why = f"what mode `{mode.value}` needs there is missing or was changed: another webhook undid it"
        fix = "create the pod again; if that does not help, look for another webhook that changes it"
        yield Refusal(Rule.INJECTED, _field(injection.extra[0].path), why, fix)
    if mode is Mode.VAULT_AGENT:
        assert view.vault_agent is not None
        wrong = differences(pod, injection.interceptor, view.vault_agent, injection.path)
    else:
        wrong = leftovers(pod)
    for problem in wrong:
        yield Refusal(Rule.INJECTED, problem.field, problem.why, problem.fix)
    wanted: dict[str, str] = {**status_annotations(injection), LABEL_INJECTED: LABEL_INJECTED_YES}
    for (field, value), name in zip(_status(pod), (*STATUS_ANNOTATIONS, LABEL_INJECTED), strict=True):
        if value != wanted[name]:
            has = "is missing" if value is None else f"is {quoted(value)}"
            why = f"{has}, but what the pod has is {quoted(wanted[name])}; it is written by admission alone"
            yield Refusal(Rule.STATUS, field, why, "remove it: admission writes it")
    if injection.interceptor.spec.delivery.placement is Placement.REQUIRE:
        for operation in node_affinity(pod, injection.choice.needs):
            why = "placement is `require`, and the node affinity that goes with it is missing"
            yield Refusal(Rule.INJECTED, _field(operation.path), why, "create the pod again")


def pod_update_problems(old: Pod, new: Pod, namespace: str) -> list[Refusal]:
    """What may not change in a pod that exists. Its volumes and containers say whether it was injected: they cannot."""
    if namespace in EXCLUDED_NAMESPACES:
        return []
    injected = holds_secrets(old)
    refusals = [Refusal(Rule.IMMUTABLE, one.field, one.why, one.fix) for one in changed(old, new)] if injected else []
    for (field, before), (_, after) in zip(_status(old), _status(new), strict=True):
        if before == after or (after is None and not injected):
            continue
        why = f"{_change(before, after)}, but it is written by admission alone"
        refusals.append(Refusal(Rule.STATUS, field, why, "leave it as it was"))
    for name in WISHES:
        before, after = old.annotations.get(name), new.annotations.get(name)
        if before == after or not (injected or (name == ANNOTATION_INJECT and asks(new))):
            continue
        field = f"metadata.annotations[{name}]"
        if injected:
            why = f"{_change(before, after)}, but the pod holds secrets by what it said when it was created"
        else:
            why = f"{_change(before, after)}, but secrets are given only when a pod is created"
        refusals.append(
            Refusal(Rule.IMMUTABLE, field, why, "delete the pod and create it anew, or change its template")
        )
    return refusals


def ephemeral_problems(old: Pod, new: Pod, namespace: str, view: View) -> list[Refusal]:
    """Whether ephemeral containers may be added: in a pod that holds our volumes each interceptor must allow it."""
    known = {container.name for container in old.spec.ephemeral_containers or ()}
    added = [one for one in new.spec.ephemeral_containers or () if one.name not in known]
    if not added or namespace in EXCLUDED_NAMESPACES:
        return []
    index = (new.spec.ephemeral_containers or ()).index(added[0])
    for name in given_by(old):
        interceptor = view.interceptors.get(name)
        if interceptor is None:
            why = f"the pod holds files of the interceptor {quoted(name)}, which is not there to allow it"
        elif interceptor.spec.access.ephemeral_containers is EphemeralContainers.ALLOW:
            continue
        else:
            why = (
                f"{quoted(added[0].name or '')} would reach the files of the interceptor {quoted(name)} through"
                " /proc/1/root, and that one does not allow it"
            )
        fix = "debug a copy of the pod that does not opt in, or set spec.access.ephemeralContainers: allow"
        doubt = Doubt(interceptor=name)
        return [Refusal(Rule.EPHEMERAL, f"spec.ephemeralContainers[{index}]", why, fix, doubt=doubt)]
    return []


def _status(pod: Pod) -> list[tuple[str, str | None]]:
    """Field and value of each thing that admission alone writes."""
    found: list[tuple[str, str | None]] = [
        (f"metadata.annotations[{name}]", pod.annotations.get(name)) for name in STATUS_ANNOTATIONS
    ]
    found.append((f"metadata.labels[{LABEL_INJECTED}]", pod.labels.get(LABEL_INJECTED)))
    return found


def _field(path: str) -> str:
    """A JSON Pointer, as people write it."""
    plain = re.sub(r"/(\d+)(?=/|$)", r"[\1]", path.removeprefix("/").removesuffix("/-"))
    return plain.replace("/", ".").replace("~1", "/").replace("~0", "~")


def _change(before: str | None, after: str | None) -> str:
    if before is None:
        return f"{quoted(after or '')} was added"
    return f"{quoted(before)} was " + ("removed" if after is None else f"changed to {quoted(after)}")
