"""`choose_mode`: how one pod gets its secrets, from the nodes that it can land on. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kernelsecret.interceptor import Mode, Placement, SecretInterceptor
from kernelsecret.names import ANNOTATION_MODE, ANNOTATION_MODE_AUTO, LABEL_ENGINE
from kernelsecret.problems import Problem, quoted
from webhook.policy.nodes import Landing, Nodes
from webhook.policy.pods import Pod
from webhook.policy.served import SERVED_MODES, engines_for
from webhook.policy.steps import ALL, NO_DOUBT, Doubt, Refusal, Rule

FIELD_MODE = f"metadata.annotations[{ANNOTATION_MODE}]"


class Choice(NamedTuple):
    """A mode; `engines` are those that node affinity has to ask for, empty where none is needed."""

    mode: Mode
    engines: tuple[str, ...]
    why: str


class _Option(NamedTuple):
    mode: Mode
    engines: tuple[str, ...]


def choose_mode(pod: Pod, interceptor: SecretInterceptor, nodes: Nodes) -> Choice:
    """The first allowed mode that works where the pod can land. Raises Refusal where there is none."""
    options = _options(pod, interceptor)
    if pod.spec.node_name:
        return _on_node(pod.spec.node_name, options, nodes)
    try:
        landing = nodes.landing(pod.spec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        why = "nodeSelector, tolerations and affinity are not those of a pod"
        raise Refusal(Rule.PLACEMENT, "spec", why, "look at their types") from None
    if interceptor.spec.delivery.placement is Placement.REQUIRE:
        mode, engines = options[0]
        why = f"placement is `require`: the pod waits for a node whose {LABEL_ENGINE} is {_either(engines)}"
        able = f", as {landing.able(engines)} that it can land on are now" if landing else ""
        return Choice(mode, engines, f"{why}{able}")
    if landing is None:
        mode, engines = options[0]
        why = "the pod has too many requirements to compare them with every node"
        return Choice(mode, engines, f"{why}: node affinity to {LABEL_ENGINE} {_either(engines)} is added")
    return _prefer(options, landing)


def _options(pod: Pod, interceptor: SecretInterceptor) -> list[_Option]:
    """The modes that may be used and would work somewhere, in order; at least one."""
    name = quoted(interceptor.metadata.name)
    doubt = Doubt(interceptor=interceptor.metadata.name)
    delivery = interceptor.spec.delivery
    wanted = pod.annotations.get(ANNOTATION_MODE, ANNOTATION_MODE_AUTO)
    modes = delivery.modes
    if wanted != ANNOTATION_MODE_AUTO:
        modes = tuple(mode for mode in modes if mode.value == wanted)
        if not modes:
            allowed = ", ".join(delivery.modes)
            why = f"{quoted(wanted)} is not one of spec.delivery.modes of the interceptor {name} ({allowed})"
            raise Refusal(Rule.MODE, FIELD_MODE, why, f"use one of them, or '{ANNOTATION_MODE_AUTO}'", doubt=doubt)
    if delivery.placement is Placement.REQUIRE:
        modes = modes[:1]
    options, problems = [], []
    for mode in modes:
        problem = _problem(mode, pod, name)
        if problem is None:
            options.append(_Option(mode, engines_for(mode, interceptor.spec)))
        else:
            problems.append(problem)
    if not options:
        why = " and ".join(problem.why for problem in problems)
        is_the_interceptor_s = any(mode not in SERVED_MODES for mode in modes)
        raise Refusal(
            Rule.MODE, problems[0].field, why, problems[0].fix, doubt=doubt if is_the_interceptor_s else NO_DOUBT
        )
    return options


def _problem(mode: Mode, pod: Pod, interceptor: str) -> Problem | None:
    """Why a mode cannot serve the pod on any node, None if it can."""
    if mode not in SERVED_MODES:
        why = f"mode `{mode.value}` is not served by this version"
        fix = f"let the interceptor allow {_either(SERVED_MODES)}"
        return Problem(f"interceptor {interceptor}: spec.delivery.modes", why, fix)
    if pod.spec.host_users is False:
        why = f"mode `{mode.value}` cannot serve a pod with a user namespace of its own: bpffs has no idmapped mounts"
        return Problem("spec.hostUsers", why, "leave hostUsers out, or set it to true")
    return None


def _on_node(name: str, options: list[_Option], nodes: Nodes) -> Choice:
    node = nodes.get(name)
    doubt = Doubt(node=name)
    if node is None:
        why = f"there is no node {quoted(name)}"
        raise Refusal(Rule.PLACEMENT, "spec.nodeName", why, "name a node of the cluster", doubt=doubt)
    for mode, engines in options:
        if node.engine in engines:
            return Choice(mode, (), f"the pod names the node {quoted(name)}, which serves by `{node.engine}`")
    has = f"is {quoted(node.engine)}" if node.engine else "is missing"
    why = f"no allowed mode works on the node {quoted(name)}: its label {LABEL_ENGINE} {has}, not {_wanted(options)}"
    fix = "name another node, or look at the agent of this one"
    raise Refusal(Rule.PLACEMENT, "spec.nodeName", why, fix, doubt=doubt)


def _prefer(options: list[_Option], landing: Landing) -> Choice:
    able = [landing.able(engines) for _, engines in options]
    for (mode, _), count in zip(options, able, strict=True):
        if 0 < count == landing.total:
            return Choice(mode, (), f"`{mode.value}` works on each of the {count} nodes that the pod can land on")
    for (mode, engines), count in zip(options, able, strict=True):
        if count:
            why = f"`{mode.value}` works on {count} of the {landing.total} nodes that the pod can land on"
            return Choice(mode, engines, f"{why}: node affinity to {LABEL_ENGINE} {_either(engines)} is added")
    if not landing.total:
        mode, engines = options[0]
        why = "no node is known that the pod can land on, so it waits for one"
        return Choice(mode, engines, f"{why} whose {LABEL_ENGINE} is {_either(engines)}")
    why = (
        f"no allowed mode works on any of the {landing.total} nodes that the pod can land on:"
        f" none has the label {LABEL_ENGINE} with {_wanted(options)}"
    )
    fix = "look at the agents of these nodes, or let the pod wait for one: spec.delivery.placement: require"
    raise Refusal(Rule.PLACEMENT, "spec", why, fix, doubt=Doubt(node=ALL))


def _wanted(options: list[_Option]) -> str:
    return _either(tuple(dict.fromkeys(engine for option in options for engine in option.engines)))


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f"`{word}`" for word in words)
