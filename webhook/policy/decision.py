"""`decide`: whether a pod gets secrets, which, how and where, with every rule that had a say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from kernelsecret.interceptor import Mode, SecretInterceptor
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_DECISION,
    ANNOTATION_INJECT,
    ANNOTATION_INJECT_OFF,
    ANNOTATION_INTERCEPTOR,
    EXCLUDED_NAMESPACES,
    LABEL_INJECT_ENABLED,
    VOLUME_NAME,
)
from kernelsecret.problems import quoted
from webhook.policy.choose import Choice, Reasons, choose_mode, mode_steps, said_mode
from webhook.policy.containers import chosen_containers, earlier_containers
from webhook.policy.lookup import FIELD_INJECT, FIELD_NAMESPACE, lookup_interceptor, opted_in_labels
from webhook.policy.operation import Operation
from webhook.policy.pods import Mount, Place, Pod, places
from webhook.policy.preload import is_whole, preload
from webhook.policy.steps import Refusal, Rule, Step, Verdict
from webhook.policy.vault_agent.patch import operations as vault_agent_operations
from webhook.policy.vault_agent.paths import OWN_CONTAINERS
from webhook.policy.view import View
from webhook.policy.volumes import (
    check_mounts,
    check_volume,
    free_name,
    mount_path,
    mounts_of,
)


class Injection(NamedTuple):
    """What a pod that is given secrets has, or gets.

    `volume` is the name of ours, `has_volume` whether it is in the pod already (in mode `vault-agent` it comes with the
    `extra`); `containers` all names that have or get the files, sorted; `to_mount` those places that still lack the
    mount; `extra` what else the mode asks for that the pod lacks; `sentence` the decision in words.
    """

    interceptor: SecretInterceptor
    choice: Choice
    volume: str
    has_volume: bool
    containers: tuple[str, ...]
    to_mount: tuple[Place, ...]
    path: str
    sentence: str
    extra: tuple[Operation, ...] = ()


class Decision(NamedTuple):
    """Not asked: neither `injection` nor `refusal`. Asked: exactly one of them. `steps` are those of the rules that had
    a say, ending with the one that decided; of a pod that asks only where they were asked for."""

    asked: bool
    injection: Injection | None
    refusal: Refusal | None
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


def asks(pod: Pod) -> bool:
    """Whether the pod's author wants secrets."""
    return pod.annotations.get(ANNOTATION_INJECT, ANNOTATION_INJECT_OFF) != ANNOTATION_INJECT_OFF


def decide(pod: Pod, namespace: str, view: View, *, explains: bool = False) -> Decision:
    """Decide about a pod that is created in a namespace; with `explains`, in steps that can be read."""
    steps: list[Step] | None = [] if explains else None
    if namespace in EXCLUDED_NAMESPACES:
        text = f"pods of the namespace {quoted(namespace)} are never touched"
        return Decision(False, None, None, (Step(Rule.NAMESPACE, Verdict.NO, text),))
    if not asks(pod):
        value = pod.annotations.get(ANNOTATION_INJECT)
        text = f"{FIELD_INJECT}: " + ("missing" if value is None else f"{quoted(value)}, which opts out")
        return Decision(False, None, None, (Step(Rule.OPT_IN, Verdict.NO, f"{text}: the pod is left as it is"),))
    if steps is not None:
        asked = f"{FIELD_INJECT} is {quoted(pod.annotations[ANNOTATION_INJECT])}"
        steps.append(Step(Rule.OPT_IN, Verdict.YES, asked))
    if pod.is_mirror:
        text = "the pod is the picture of a static pod, which kubelet runs as its file says: it cannot be given secrets"
        said = Step(Rule.OPT_IN, Verdict.NO, text)
        return Decision(False, None, None, (*(steps or ()), said), (f"kernelsecret: {text}",))
    warnings: list[str] = []
    try:
        injection = _injection(pod, namespace, view, steps, warnings)
    except Refusal as refusal:
        told = () if steps is None else (*steps, refusal.step)
        return Decision(True, None, refusal, told, tuple(warnings))
    return Decision(True, injection, None, tuple(steps or ()), tuple(warnings))


def _injection(pod: Pod, namespace: str, view: View, steps: list[Step] | None, warnings: list[str]) -> Injection:
    labels = opted_in_labels(namespace, view)
    if steps is not None:
        steps.append(Step(Rule.NAMESPACE, Verdict.YES, f"{FIELD_NAMESPACE} is '{LABEL_INJECT_ENABLED}'"))
    if pod.spec.os and pod.spec.os.name == "windows":
        fix = f"remove the annotation {ANNOTATION_INJECT}, or run the pod on Linux"
        raise Refusal(Rule.OS, "spec.os.name", "secrets are served on Linux only, and this is 'windows'", fix)
    interceptor, why = lookup_interceptor(pod, namespace, labels, view)
    name = interceptor.metadata.name
    if steps is not None:
        steps.append(Step(Rule.INTERCEPTOR, Verdict.YES, why))
    reasons: Reasons = {}
    choice: Choice | None = None
    try:
        choice = choose_mode(pod, interceptor, view.nodes, view.vault_agent, reasons)
    finally:
        if steps is not None:
            steps += mode_steps(interceptor, choice, reasons)
    mode = choice.mode

    volume_name, names, has_volume = _volume(pod, name, mode)
    if steps is not None:
        text = f"volume {quoted(volume_name)} " + ("is in the pod already" if has_volume else "is added")
        steps.append(Step(Rule.VOLUME, Verdict.YES, text))

    all_places = tuple(places(pod.spec) if mode is not Mode.VAULT_AGENT else _own_places(pod))
    mounted = {place.name: found for place in all_places if (found := mounts_of(place, names))}
    holders = frozenset(mounted)
    chosen, why = chosen_containers(pod, interceptor, all_places, holders)
    path = mount_path(name)
    # The shim needs all of the volume in sight, to lead to it what sees a part.
    have = (
        holders if mode is not Mode.PRELOAD else {name for name, found in mounted.items() if any(map(is_whole, found))}
    )
    to_mount = tuple(place for place in all_places if place.name in chosen and place.name not in have)
    for place in to_mount:
        check_mounts(place, name, path)
    containers = tuple(sorted(chosen))
    if steps is not None:
        steps.append(Step(Rule.CONTAINERS, Verdict.YES, f"{', '.join(map(quoted, containers))} at {path}: {why}"))

    extra: tuple[Operation, ...] = ()
    notes: Sequence[Step] = ()
    if mode is Mode.PRELOAD:
        holding = [place for place in all_places if place.name in chosen]
        earlier = earlier_containers(pod, holders) or frozenset()
        extra, notes = preload(pod, holding, names, path, interceptor.spec.delivery.preload.prefixes, earlier)
    else:
        if mounted:
            notes = tuple(_never_rotate(all_places, mounted))
        if mode is Mode.VAULT_AGENT:
            assert view.vault_agent is not None
            extra = tuple(vault_agent_operations(pod, interceptor, view.vault_agent, path))
    if notes:
        if steps is not None:
            steps += notes
        warnings += (f"kernelsecret: {note.text}" for note in notes)
    sentence = _sentence(pod, name, choice)
    return Injection(interceptor, choice, volume_name, has_volume, containers, to_mount, path, sentence, extra)


def _volume(pod: Pod, interceptor: str, mode: Mode) -> tuple[str, frozenset[str], bool]:
    """The name of our volume, all names that it has, and whether it is there. Raises Refusal.

    A mount of its name counts also while the volume is missing: it is the one that is added.
    """
    volumes = pod.spec.volumes or ()
    if mode is Mode.VAULT_AGENT:
        return VOLUME_NAME, frozenset((VOLUME_NAME,)), any(volume.name == VOLUME_NAME for volume in volumes)
    names: list[str] = []
    for index, volume in enumerate(volumes):
        csi = volume.csi
        if csi is None or not volume.is_ours:
            continue
        if not csi.is_shim:
            check_volume(index, volume, interceptor)
            names.append(volume.name or "")
        elif mode is not Mode.PRELOAD:
            why = f"the shim is for pods in mode `{Mode.PRELOAD}`, and this one is in mode `{mode}`"
            raise Refusal(Rule.VOLUME, f"spec.volumes[{index}].csi", why, "remove the volume")
    first = names[0] if names else free_name(volumes)
    return first, frozenset(names or (first,)), bool(names)


def _own_places(pod: Pod) -> Iterator[Place]:
    """The containers that may get the files: not those that admission adds to write them."""
    return (place for place in places(pod.spec) if place.name not in OWN_CONTAINERS)


def _never_rotate(all_places: Sequence[Place], mounted: Mapping[str, list[Mount]]) -> Iterator[Step]:
    for place in all_places:
        for mount in mounted.get(place.name, ()):
            if not is_whole(mount):
                text = f"{place.field} mounts {quoted(mount.name or '')} by subPath, so it never sees a rotation"
                yield Step(Rule.MOUNT, Verdict.NOTE, f"{text}; mount the whole volume")


MOST_SENTENCE: Final = 1024
"""Characters of the annotation that says what was decided."""


def _sentence(pod: Pod, interceptor: str, choice: Choice) -> str:
    """What was decided, in the words of the call that decided it: a later one sees a pod with affinity."""
    annotations = pod.annotations
    said = annotations.get(ANNOTATION_DECISION)
    if (
        said is not None
        and annotations.get(ANNOTATION_CHOSEN_MODE) == choice.mode
        and annotations.get(ANNOTATION_INTERCEPTOR) == interceptor
        and is_sentence(said, choice.mode)
    ):
        return said
    return choice.sentence[:MOST_SENTENCE]


def is_sentence(text: str, mode: str) -> bool:
    """Whether a text can be the one that admission wrote about a mode."""
    return text.startswith(said_mode(mode)) and len(text) <= MOST_SENTENCE
