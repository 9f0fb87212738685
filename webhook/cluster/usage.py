"""Which pods show what an interceptor gave them, and what its status has to say about that. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from kernelsecret.interceptor import Mode, OnUnavailable, SecretInterceptor
from kernelsecret.interceptor_status import Condition, InterceptorStatus
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INJECT,
    ANNOTATION_INJECT_ANY,
    ANNOTATION_INTERCEPTOR,
    CONTAINER_VAULT_AGENT,
    LABEL_ENGINE,
    LABEL_INJECT,
    LABEL_INJECT_ENABLED,
)
from webhook.cluster.objects import Interceptor, InvalidInterceptor
from webhook.cluster.served import Summary
from webhook.policy.judging import interceptor_problems
from webhook.policy.modes import counted, unusable
from webhook.policy.pods import Volume
from webhook.policy.served import ANYWHERE, UNENFORCED_MODES, is_waived, needs
from webhook.policy.volumes import our_volumes

ACCEPTED: Final = "Accepted"
READY: Final = "Ready"
IN_USE: Final = "InUse"
UNSELECTED: Final = "PodsUnselected"
CURRENT: Final = "SecretsCurrent"
_OVER: Final = ("Succeeded", "Failed")


class UsingPod(msgspec.Struct, frozen=True, gc=False):
    """A pod that was injected and has not ended. `inject` is its own annotation, as it is now. One without `volumes`
    has a Vault Agent of its own, of which the agents of the nodes know nothing."""

    namespace: str
    name: str
    interceptor: str
    inject: str
    labels: Mapping[str, str]
    volumes: int
    node: str = ""
    mode: str = ""


class _Meta(msgspec.Struct, frozen=True, gc=False):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Container(msgspec.Struct, frozen=True, gc=False):
    name: str = ""


class _Spec(msgspec.Struct, frozen=True, gc=False):
    volumes: tuple[Volume, ...] | None = None
    init_containers: tuple[_Container, ...] | None = msgspec.field(name="initContainers", default=None)
    node_name: str = msgspec.field(name="nodeName", default="")


class _Status(msgspec.Struct, frozen=True, gc=False):
    phase: str = ""


class _Pod(msgspec.Struct, frozen=True, gc=False):
    metadata: _Meta
    spec: _Spec = _Spec()
    status: _Status = _Status()


_decoder: Final = msgspec.json.Decoder(_Pod)


def read_using_pod(raw: bytes) -> UsingPod | None:
    """A pod from its JSON, None where it holds nothing of ours (any more). Raises msgspec.DecodeError."""
    pod = _decoder.decode(raw)
    annotations = pod.metadata.annotations or {}
    interceptor = annotations.get(ANNOTATION_INTERCEPTOR, "")
    volumes = len(our_volumes(pod.spec.volumes or ()))
    holds = volumes or (
        annotations.get(ANNOTATION_CHOSEN_MODE) == Mode.VAULT_AGENT
        and any(one.name == CONTAINER_VAULT_AGENT for one in pod.spec.init_containers or ())
    )
    if not interceptor or not holds or pod.status.phase in _OVER:
        return None
    return UsingPod(
        pod.metadata.namespace,
        pod.metadata.name,
        interceptor,
        annotations.get(ANNOTATION_INJECT, ""),
        pod.metadata.labels or {},
        volumes,
        # Few of each, for many pods.
        sys.intern(pod.spec.node_name),
        sys.intern(annotations.get(ANNOTATION_CHOSEN_MODE, "")),
    )


class Usage(NamedTuple):
    """Sums over the pods of one interceptor; `unselected` are those that it would not be given to now, `own` those
    that have a Vault Agent of their own."""

    pods: int = 0
    volumes: int = 0
    namespaces: int = 0
    unselected: int = 0
    own: int = 0

    @property
    def served(self) -> int:
        """Those that the agents of their nodes serve."""
        return self.pods - self.own


def is_given(pod: UsingPod, interceptor: Interceptor, namespace_labels: Mapping[str, str] | None) -> bool:
    """Whether the pod would be given the interceptor now, by what can change while it runs."""
    if not isinstance(interceptor, SecretInterceptor) or interceptor.metadata.deletion_timestamp:
        return False
    labels = namespace_labels or {}
    return (
        labels.get(LABEL_INJECT) == LABEL_INJECT_ENABLED
        and pod.inject in (ANNOTATION_INJECT_ANY, pod.interceptor)
        and interceptor.spec.namespace_selector.matches(labels)
        and interceptor.spec.pod_selector.matches(pod.labels)
        and (pod.mode not in UNENFORCED_MODES or is_waived(interceptor.spec))
    )


def desired_status(
    interceptor: Interceptor,
    usage: Usage,
    engines: Mapping[str, int],
    now: str,
    summary: Summary | None = None,
    *,
    has_vault_agent: bool = True,
) -> InterceptorStatus:
    """What its status should be. `engines` counts the cluster's nodes by engine ("" for none); `now` is RFC 3339.
    `has_vault_agent`: mode `vault-agent` is set up.

    Without a `summary` (not every agent was asked yet) what was said of the secrets stays.

    A condition keeps its time of transition for as long as it is as true as it was.
    """
    before = {one.type: one for one in interceptor.status.conditions} if interceptor.status else {}
    accepted = _accepted(interceptor)
    conditions = (
        accepted,
        _ready(interceptor, accepted.status == "True", engines, has_vault_agent=has_vault_agent),
        _in_use(usage),
        _unselected(interceptor, usage),
        current(usage.served, summary) or _as_it_was(before.get(CURRENT)),
    )
    was = interceptor.status.secrets if interceptor.status else ()
    return InterceptorStatus(
        conditions=tuple(_since(one, before.get(one.type), interceptor.metadata.generation, now) for one in conditions),
        volumes=usage.volumes,
        pods=usage.pods,
        secrets=() if not usage.served else was if summary is None else summary.secrets,
    )


def _accepted(interceptor: Interceptor) -> Condition:
    if isinstance(interceptor, InvalidInterceptor):
        return _condition(ACCEPTED, False, "Invalid", interceptor.why)
    problems = [str(problem) for problem in interceptor_problems(interceptor)]
    if problems:
        return _condition(ACCEPTED, False, "CannotWork", " | ".join(problems))
    return _condition(ACCEPTED, True, "Valid", "it can work")


def _ready(interceptor: Interceptor, accepted: bool, engines: Mapping[str, int], *, has_vault_agent: bool) -> Condition:
    if not accepted or isinstance(interceptor, InvalidInterceptor):
        return _condition(READY, False, "NotAccepted", f"see {ACCEPTED}")
    if interceptor.metadata.deletion_timestamp:
        return _condition(READY, False, "BeingDeleted", "no new pod is given it")
    usable = [mode for mode in counted(interceptor.spec) if unusable(mode, interceptor) is None]
    if usable == [Mode.VAULT_AGENT] and not has_vault_agent:
        return _condition(READY, False, "NotSetUp", "the webhook knows no Vault and no image for mode vault-agent")
    known = [mode for mode in usable if mode is not Mode.VAULT_AGENT or has_vault_agent]
    every = [found for mode in known if (found := needs(mode, interceptor.spec)) is not None]
    wanted = sorted({engine for one in every for engine in one.engines})
    total = sum(engines.values())
    able = total if ANYWHERE in every else sum(engines.get(engine, 0) for engine in wanted)
    if able or ANYWHERE in every:
        return _condition(READY, True, "NodesCanServe", f"{able} of {total} nodes can serve it")
    text = f"none of {total} nodes has the label {LABEL_ENGINE} with {' or '.join(wanted)}; look at the agents"
    return _condition(READY, False, "NoNodeCanServe", text)


def _in_use(usage: Usage) -> Condition:
    if not usage.pods:
        return _condition(IN_USE, False, "NoPods", "no pod holds it")
    pods, namespaces = _many(usage.pods, "pod"), _many(usage.namespaces, "namespace")
    held = f"{pods} in {namespaces}, {_many(usage.volumes, 'volume')}"
    if usage.own:
        held += f", {usage.own} with a Vault Agent of their own"
    return _condition(IN_USE, True, "PodsHoldIt", held)


def _unselected(interceptor: Interceptor, usage: Usage) -> Condition:
    if not usage.unselected:
        return _condition(UNSELECTED, False, "AllGiven", "every pod that holds it is given it")
    are = f"{_many(usage.unselected, 'running pod')} {'is' if usage.unselected == 1 else 'are'} no longer given it"
    if usage.own:
        are += " (a Vault Agent of their own goes on for as long as Vault lets it)"
    if isinstance(interceptor, SecretInterceptor) and (
        interceptor.spec.delivery.on_unavailable is OnUnavailable.REFUSE
    ):
        return _condition(UNSELECTED, True, "RefusesReads", f"{are}: reads are refused (onUnavailable: refuse)")
    return _condition(UNSELECTED, True, "KeepsLastValue", f"{are}: the last value is kept (onUnavailable: keep)")


def current(pods: int, summary: Summary | None) -> Condition | None:
    """Whether every pod that agents of ours serve has the newest version of every secret; None where that was not
    asked yet."""
    if not pods:
        return _unknown(_NO_PODS, "no agent of ours serves it to a pod")
    if summary is None:
        return None
    failing = [one for one in summary.secrets if one.failing]
    if failing:
        told = " | ".join(f"{one.name}: {one.failing} of {_many(one.pods, 'pod')}: {one.message}" for one in failing)
        return _condition(CURRENT, False, "SourceFailing", told)
    if summary.silent:
        why = f"{summary.silent} of {_many(pods, 'pod')}: the agents of their nodes do not say"
        return _unknown("AgentsSilent", f"{why}; look at the agents")
    behind = [one for one in summary.secrets if one.behind]
    if behind:
        told = ", ".join(f"{one.name}: {one.behind} of {_many(one.pods, 'pod')}" for one in behind)
        return _condition(CURRENT, False, "ReadersBehind", f"the newest version is not read yet: {told}")
    if summary.unserved:
        return _unknown("NotServedYet", f"{summary.unserved} of {_many(pods, 'pod')}: no volume is served yet")
    return _condition(CURRENT, True, "AllCurrent", f"{_many(pods, 'pod')}: newest version of every secret")


def _as_it_was(before: Condition | None) -> Condition:
    if before is None or before.reason == _NO_PODS:
        return _unknown("NotAsked", "the agents were not asked yet")
    return before


def _unknown(reason: str, message: str) -> Condition:
    return Condition(type=CURRENT, status="Unknown", reason=reason, message=message)


_NO_PODS: Final = "NoPods"


def _condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(type=kind, status=str(holds), reason=reason, message=message[:_MOST_MESSAGE])


_MOST_MESSAGE: Final = 1024


def _since(condition: Condition, before: Condition | None, generation: int, now: str) -> Condition:
    same = before is not None and before.status == condition.status and before.last_transition_time
    return msgspec.structs.replace(
        condition,
        last_transition_time=before.last_transition_time if before and same else now,
        observed_generation=generation,
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def add(usage: Usage, pods: Iterable[UsingPod], namespaces: set[str], given: Callable[[UsingPod], bool]) -> Usage:
    """The sums with more pods of the same interceptor; `namespaces` collects where they are."""
    count, volumes, _, unselected, own = usage
    for pod in pods:
        count += 1
        volumes += pod.volumes
        unselected += not given(pod)
        own += not pod.volumes
        namespaces.add(pod.namespace)
    return Usage(count, volumes, len(namespaces), unselected, own)
