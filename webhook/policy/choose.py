"""`choose_mode`: how one pod gets its secrets, from the nodes that it can land on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from kernelsecret.interceptor import Mode, Placement, SecretInterceptor
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_INTERCEPTOR,
    ANNOTATION_MODE,
    ANNOTATION_MODE_AUTO,
    LABEL_ENGINE,
    LABEL_IDMAPPED,
    LABEL_INJECTED,
)
from kernelsecret.problems import quoted
from webhook.policy.modes import mode_problem
from webhook.policy.nodes import Landing, Node, Nodes
from webhook.policy.pods import Pod
from webhook.policy.served import ANYWHERE, UNENFORCED_MODES, Needs, by_kernel_alone, needs
from webhook.policy.steps import ALL, Doubt, Refusal, Rule, Step, Verdict
from webhook.policy.vault_agent.settings import VaultAgentSettings

FIELD_MODE = f"metadata.annotations[{ANNOTATION_MODE}]"
_MODES = tuple(mode.value for mode in Mode)


PASSED_OVER: Final = "; not "
"""Before each mode that was passed over, in the sentence of a decision."""
Reasons = dict[Mode, str]
"""Why modes were not taken."""


class Choice(NamedTuple):
    """A mode; `needs` is what node affinity has to ask for, ANYWHERE where it is not needed. `passed` are the modes
    that come before it in the interceptor's order, each with why it was not taken."""

    mode: Mode
    needs: Needs
    why: str
    passed: tuple[tuple[Mode, str], ...] = ()

    @property
    def sentence(self) -> str:
        """The decision, for the pod's annotation."""
        said = f"{said_mode(self.mode)}{self.why}"
        if self.mode in UNENFORCED_MODES:
            said += "; the access rule is waived"
        return said + "".join([f"{PASSED_OVER}{mode}: {why}" for mode, why in self.passed]) if self.passed else said


def said_mode(mode: str) -> str:
    """How each decision about a mode begins."""
    return f"mode {mode}: "


def mode_steps(interceptor: SecretInterceptor, choice: Choice | None, reasons: Reasons) -> Iterator[Step]:
    """What is to be said of each mode of an interceptor, in its order; without a choice, of those with a reason."""
    for mode in interceptor.spec.delivery.modes:
        if choice is not None and mode is choice.mode:
            yield Step(Rule.MODE, Verdict.YES, f"mode `{mode}`: {choice.why}")
        elif mode in reasons:
            yield Step(Rule.MODE, Verdict.NO, f"mode `{mode}`: {reasons[mode]}")
        elif choice is not None:
            yield Step(Rule.MODE, Verdict.NOTE, f"mode `{mode}`: comes after `{choice.mode}`")


class _Option(NamedTuple):
    mode: Mode
    needs: Needs


def choose_mode(
    pod: Pod,
    interceptor: SecretInterceptor,
    nodes: Nodes,
    vault_agent: VaultAgentSettings | None = None,
    reasons: Reasons | None = None,
) -> Choice:
    """The first allowed mode that works where the pod can land. Raises Refusal where there is none.

    `reasons` is told of the modes that were looked at and not taken.
    """
    passed: Reasons = {} if reasons is None else reasons
    options = _options(pod, interceptor, vault_agent, passed)
    choice = _choose(pod, interceptor, options, nodes, passed)
    if not passed:
        return choice
    modes = interceptor.spec.delivery.modes
    before = modes[: modes.index(choice.mode)]
    return choice._replace(passed=tuple((mode, passed[mode]) for mode in before if mode in passed))


def _choose(pod: Pod, interceptor: SecretInterceptor, options: list[_Option], nodes: Nodes, passed: Reasons) -> Choice:
    if pod.spec.node_name:
        return _on_node(pod.spec.node_name, options, nodes, passed)
    try:
        landing = nodes.landing(pod.spec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        why = "nodeSelector, tolerations and affinity are not those of a pod"
        raise Refusal(Rule.PLACEMENT, "spec", why, "look at their types") from None
    mode, wanted = options[0]
    if interceptor.spec.delivery.placement is Placement.REQUIRE:
        if wanted == ANYWHERE:
            return Choice(mode, ANYWHERE, "placement is `require`, and it works on every node")
        why = f"placement is `require`: the pod waits for a node whose {wanted}"
        able = f", as {landing.able(wanted)} that it can land on are now" if landing else ""
        return Choice(mode, wanted, f"{why}{able}")
    if landing is None:
        why = "the pod has too many requirements to compare them with every node"
        return Choice(mode, wanted, why if wanted == ANYWHERE else f"{why}: node affinity to {wanted} is added")
    return _prefer(options, landing, passed)


def _options(
    pod: Pod,
    interceptor: SecretInterceptor,
    vault_agent: VaultAgentSettings | None,
    passed: Reasons,
) -> list[_Option]:
    """The modes that may be used and would work somewhere, in order; at least one. The others go to `passed`."""
    delivery = interceptor.spec.delivery
    doubt = Doubt(interceptor=interceptor.metadata.name)
    modes = delivery.modes
    asked = pod.annotations.get(ANNOTATION_MODE, ANNOTATION_MODE_AUTO)
    if asked != ANNOTATION_MODE_AUTO:
        modes = tuple(mode for mode in modes if mode.value == asked)
        if not modes:
            of = f"spec.delivery.modes of the interceptor {quoted(interceptor.metadata.name)}"
            why = f"{quoted(asked)} is " + ("not one" if asked in _MODES else "no mode, so none") + f" of {of}"
            fix = f"use one of them ({', '.join(delivery.modes)}), or '{ANNOTATION_MODE_AUTO}'"
            raise Refusal(Rule.MODE, FIELD_MODE, why, fix, doubt=doubt)
        passed |= {mode: f"the pod asks for {asked}" for mode in delivery.modes if mode.value != asked}
    elif delivery.placement is Placement.REQUIRE:
        passed |= dict.fromkeys(modes[1:], "placement is `require`, so that the first mode alone counts")
        modes = modes[:1]
    host_users = pod.spec.host_users is not False
    options, problems = [], []
    for mode in modes:
        wanted = needs(mode, interceptor.spec, host_users=host_users)
        problem = mode_problem(mode, pod, interceptor, wanted, vault_agent)
        if problem is None:
            assert wanted is not None
            options.append(_Option(mode, wanted))
        else:
            problems.append(problem)
            passed[mode] = f"{problem.field}: {problem.why}"
    if not options:
        # A later mode of the interceptor can be a new one, and so can its waiver.
        why = " and ".join(dict.fromkeys(problem.why for problem in problems))
        raise Refusal(Rule.MODE, problems[0].field, why, problems[0].fix, doubt=doubt)
    options = _parted(options, passed)
    if len(options) > 1 and (kept := _earlier(pod, interceptor, options)):
        passed |= {one.mode: f"an earlier call chose {kept.mode.value}" for one in options if one is not kept}
        return [kept]
    return options


def _parted(options: list[_Option], passed: Reasons) -> list[_Option]:
    """By ordinary files `ebpf` and `preload` work on the same nodes, and `preload` does more there. So where it comes
    later, `ebpf` is what the kernel serves, and the later mode is not named in vain."""
    modes = [option.mode for option in options]
    if Mode.PRELOAD not in modes or Mode.EBPF not in modes[: modes.index(Mode.PRELOAD)]:
        return options
    place = modes.index(Mode.EBPF)
    wanted = by_kernel_alone(options[place].needs)
    if wanted is not None:
        return [*options[:place], _Option(Mode.EBPF, wanted), *options[place + 1 :]]
    passed[Mode.EBPF] = "bpffs has no idmapped mounts, and ordinary files are for `preload`, which comes later"
    return [*options[:place], *options[place + 1 :]]


def _earlier(pod: Pod, interceptor: SecretInterceptor, options: list[_Option]) -> _Option | None:
    """What an earlier call chose. It stays: nodes may have come and gone since, and a pod has parts of one mode only.

    Whoever writes it by hand has asked for one of the modes that are open to the pod, as by the annotation for it.
    """
    if LABEL_INJECTED not in pod.labels or pod.annotations.get(ANNOTATION_INTERCEPTOR) != interceptor.metadata.name:
        return None
    chosen = pod.annotations.get(ANNOTATION_CHOSEN_MODE)
    return next((option for option in options if option.mode.value == chosen), None)


def _on_node(name: str, options: list[_Option], nodes: Nodes, passed: Reasons) -> Choice:
    node = nodes.get(name)
    doubt = Doubt(node=name)
    if node is None:
        why = f"there is no node {quoted(name)}"
        raise Refusal(Rule.PLACEMENT, "spec.nodeName", why, "name a node of the cluster", doubt=doubt)
    for mode, wanted in options:
        if node.meets(wanted):
            serves = "where any will do" if wanted == ANYWHERE else f"which serves by `{node.engine}`"
            return Choice(mode, ANYWHERE, f"the pod names the node {quoted(name)}, {serves}")
        passed[mode] = f"of its node {_has(node, wanted)}, not {wanted}"
    widest = _widest(options)
    why = f"no allowed mode works on the node {quoted(name)}: its label {_has(node, widest)}, not {widest}"
    fix = "name another node, or look at the agent of this one"
    raise Refusal(Rule.PLACEMENT, "spec.nodeName", why, fix, doubt=doubt)


def _has(node: Node, wanted: Needs) -> str:
    """The label of a node that stands against a mode."""
    label = LABEL_IDMAPPED if node.engine in wanted.engines else LABEL_ENGINE
    value = node.labels.get(label, "")
    return f"{label} is {quoted(value)}" if value else f"{label} is missing"


def _prefer(options: list[_Option], landing: Landing, passed: Reasons) -> Choice:
    """The first mode that works on half of the nodes or more; where none does, the one that works on most of them."""
    total = landing.total
    if not total:
        mode, wanted = options[0]
        why = "no node is known that the pod can land on, so it waits for one"
        return Choice(mode, wanted, why if wanted == ANYWHERE else f"{why} whose {wanted}")
    able = [landing.able(option.needs) for option in options]
    halves = [index for index, count in enumerate(able) if 2 * count >= total]
    taken = halves[0] if halves else able.index(max(able))
    (mode, wanted), count = options[taken], able[taken]
    if not count:
        any_of = f"any of the {total} nodes" if total > 1 else "the only node"
        why = f"no allowed mode works on {any_of} that the pod can land on: none has the label"
        fix = "look at the agents of these nodes, or let the pod wait for one: spec.delivery.placement: require"
        doubt = Doubt(node=ALL)
        raise Refusal(Rule.PLACEMENT, "spec", f"{why} {_widest(options)}", fix, doubt=doubt)
    for index in range(taken):
        passed[options[index].mode] = f"it works on {_few(able[index], total)}"
    if count == total:
        each = f"each of the {count} nodes" if count > 1 else "the only node"
        return Choice(mode, ANYWHERE, f"it works on {each} that the pod can land on")
    why = f"it works on {count} of the {total} nodes that the pod can land on"
    return Choice(mode, wanted, f"{why}: node affinity to {wanted} is added")


def _few(count: int, total: int) -> str:
    """Less than half of the nodes, in words."""
    none_of = f"none of the {total} nodes" if total > 1 else "no node"
    return f"{count} of the {total} nodes only" if count else none_of


def _widest(options: list[_Option]) -> Needs:
    """What the nodes would have to have for one of the modes."""
    return max((option.needs for option in options), key=lambda wanted: len(wanted.engines))
