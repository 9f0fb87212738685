"""Which containers get the files. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.names import ANNOTATION_CONTAINERS, ANNOTATION_INJECTED_CONTAINERS
from kernelsecret.problems import quoted
from webhook.policy.pods import Place, Pod
from webhook.policy.steps import NO_DOUBT, Doubt, Refusal, Rule

PROXIES: Final = frozenset(
    {
        "istio-proxy",
        "istio-init",
        "istio-validation",
        "linkerd-proxy",
        "linkerd-init",
        "linkerd-network-validator",
        "consul-dataplane",
        "consul-connect-inject-init",
        "envoy",
        "envoy-sidecar",
        "kuma-sidecar",
        "kuma-init",
        "kuma-validation",
        "vault-agent",
        "vault-agent-init",
        "aws-appmesh-envoy",
        "daprd",
        "datadog-agent-injected",
        "opentelemetry-auto-instrumentation",
    }
)
"""Containers that other injectors are known to add, before us or after. They run no code of the application and need
none of its secrets; an interceptor that names one in `delivery.containers` gives it the files all the same."""

FIELD_CONTAINERS = f"metadata.annotations[{ANNOTATION_CONTAINERS}]"


def split_names(text: str) -> list[str]:
    """Names with commas between them; blanks around them do not count."""
    return [name for part in text.split(",") if (name := part.strip())]


def chosen_containers(
    pod: Pod, interceptor: SecretInterceptor, places: Sequence[Place], holders: frozenset[str]
) -> tuple[frozenset[str], str]:
    """The names of the containers that get the files, and why these. Raises Refusal.

    `holders` are those that mount a volume of ours already: by the hand of the pod's author, or by ours in an earlier
    call. They stay what they are.
    """
    present = frozenset(place.name for place in places)
    doubt = Doubt(interceptor=interceptor.metadata.name)
    listed = interceptor.spec.delivery.containers
    if listed:
        at = f"interceptor {quoted(interceptor.metadata.name)}: spec.delivery.containers"
        _all_present(listed, present, at, doubt)
        for place in places:
            if place.name in holders and place.name not in listed:
                why = f"the interceptor {quoted(interceptor.metadata.name)} gives its files to {_said(listed)} only"
                fix = "remove the mount of its volume"
                raise Refusal(Rule.CONTAINERS, f"{place.field}.volumeMounts", why, fix, doubt=doubt)
    earlier = earlier_containers(pod, holders)
    if earlier is not None:
        return earlier | holders, "chosen in an earlier call; containers added since then get nothing"
    allowed = frozenset(listed) if listed else present - PROXIES
    asked = pod.annotations.get(ANNOTATION_CONTAINERS)
    if asked is not None:
        return _narrowed(asked, allowed, present, interceptor) | holders, f"those that {FIELD_CONTAINERS} names"
    if listed:
        return allowed | holders, "those that the interceptor names"
    if not allowed | holders:
        why = "every container is a proxy that an injector is known to add"
        fix = "name the container in spec.delivery.containers of the interceptor"
        raise Refusal(Rule.CONTAINERS, "spec.containers", why, fix, doubt=doubt)
    left_out = _said(sorted(present & PROXIES))
    return allowed | holders, f"all but the proxies {left_out}" if left_out else "all"


def earlier_containers(pod: Pod, holders: frozenset[str]) -> frozenset[str] | None:
    """What our own annotation says, where the pod's mounts bear it out."""
    names = frozenset(split_names(pod.annotations.get(ANNOTATION_INJECTED_CONTAINERS, "")))
    return names if names and names <= holders else None


def _narrowed(
    asked: str, allowed: frozenset[str], present: frozenset[str], interceptor: SecretInterceptor
) -> frozenset[str]:
    names = split_names(asked)
    if not names:
        raise Refusal(Rule.CONTAINERS, FIELD_CONTAINERS, "names no container", "name at least one, or remove it")
    _all_present(names, present, FIELD_CONTAINERS, NO_DOUBT)
    for name in names:
        if name not in allowed:
            of = f"the interceptor {quoted(interceptor.metadata.name)}"
            why = f"{quoted(name)} is not one that {of} allows; the annotation can only narrow"
            fix = "remove the name, or have it added to spec.delivery.containers of the interceptor"
            raise Refusal(
                Rule.CONTAINERS, FIELD_CONTAINERS, why, fix, doubt=Doubt(interceptor=interceptor.metadata.name)
            )
    return frozenset(names)


def _all_present(names: Sequence[str], present: frozenset[str], field: str, doubt: Doubt) -> None:
    for name in names:
        if name not in present:
            why = f"the pod has no container {quoted(name)}; it has {_said(sorted(present))}"
            raise Refusal(Rule.CONTAINERS, field, why, "look for a typing error", doubt=doubt)


def _said(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names[:8]) + (", ..." if len(names) > 8 else "")
