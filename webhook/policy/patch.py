"""The JSON Patch that injects a pod: operations written down directly, without a copy of the pod or a comparison. Pure.

Only what is missing is added, so a pod that was injected already gets no operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kernelsecret.interceptor import Mode
from kernelsecret.names import (
    ANNOTATION_CHOSEN_MODE,
    ANNOTATION_DECISION,
    ANNOTATION_INJECTED_CONTAINERS,
    ANNOTATION_INTERCEPTOR,
    ATTRIBUTE_INTERCEPTOR,
    DRIVER_NAME,
    LABEL_INJECTED,
    LABEL_INJECTED_YES,
)
from webhook.policy.decision import Injection
from webhook.policy.operation import Operation, pointer
from webhook.policy.pods import Pod
from webhook.policy.scheduling import NodeRequirement, read_affinity
from webhook.policy.served import Needs

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def operations(pod: Pod, injection: Injection) -> list[Operation]:
    """What turns the pod into one that is injected; nothing where it is. Its metadata has annotations: it opted in."""
    return [
        *_volume(pod, injection),
        *_mounts(injection),
        *_annotations(pod, injection),
        *_label(pod),
        *node_affinity(pod, injection.choice.needs),
        *injection.extra,
    ]


def status_annotations(injection: Injection) -> dict[str, str]:
    """What admission writes on a pod: what it was given."""
    return {
        ANNOTATION_INTERCEPTOR: injection.interceptor.metadata.name,
        ANNOTATION_CHOSEN_MODE: injection.choice.mode.value,
        ANNOTATION_INJECTED_CONTAINERS: ",".join(injection.containers),
        ANNOTATION_DECISION: injection.sentence,
    }


def _volume(pod: Pod, injection: Injection) -> Iterator[Operation]:
    if injection.has_volume or injection.choice.mode is Mode.VAULT_AGENT:
        return
    csi = {
        "driver": DRIVER_NAME,
        "readOnly": True,
        "volumeAttributes": {ATTRIBUTE_INTERCEPTOR: injection.interceptor.metadata.name},
    }
    volume = {"name": injection.volume, "csi": csi}
    if pod.spec.volumes is None:
        yield Operation("/spec/volumes", [volume])
    else:
        yield Operation("/spec/volumes/-", volume)


def _mounts(injection: Injection) -> Iterator[Operation]:
    mount = {"name": injection.volume, "mountPath": injection.path, "readOnly": True}
    for place in injection.to_mount:
        if place.container.volume_mounts is None:
            yield Operation(f"{place.path}/volumeMounts", [mount])
        else:
            yield Operation(f"{place.path}/volumeMounts/-", mount)


_PATHS: Final[Mapping[str, str]] = {
    name: pointer("metadata", "annotations", name)
    for name in (ANNOTATION_INTERCEPTOR, ANNOTATION_CHOSEN_MODE, ANNOTATION_INJECTED_CONTAINERS, ANNOTATION_DECISION)
}


def _annotations(pod: Pod, injection: Injection) -> Iterator[Operation]:
    for name, value in status_annotations(injection).items():
        if pod.annotations.get(name) != value:
            yield Operation(_PATHS[name], value)


def _label(pod: Pod) -> Iterator[Operation]:
    if pod.metadata.labels is None:
        yield Operation("/metadata/labels", {LABEL_INJECTED: LABEL_INJECTED_YES})
    elif pod.labels.get(LABEL_INJECTED) != LABEL_INJECTED_YES:
        yield Operation(pointer("metadata", "labels", LABEL_INJECTED), LABEL_INJECTED_YES)


def node_affinity(pod: Pod, needs: Needs) -> Iterator[Operation]:
    """What makes the scheduler look only at nodes that have what is needed; nothing where it does, or all will do.

    Terms are alternatives, so each must ask for it. One without requirements accepts no node, and must stay like that.
    """
    if not needs.engines:
        return
    wanted = [{"key": label, "operator": "In", "values": list(values)} for label, values in needs.labels]
    affinity = read_affinity(pod.spec.affinity)
    node = affinity.node_affinity if affinity else None
    value: dict[str, Any] = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
    if affinity is None:
        yield Operation("/spec/affinity", {"nodeAffinity": {_REQUIRED: value}})
    elif node is None:
        yield Operation("/spec/affinity/nodeAffinity", {_REQUIRED: value})
    elif node.required is None:
        yield Operation(f"/spec/affinity/nodeAffinity/{_REQUIRED}", value)
    else:
        for index, term in enumerate(node.required.node_selector_terms or ()):
            if term.is_empty:
                continue
            at = f"/spec/affinity/nodeAffinity/{_REQUIRED}/nodeSelectorTerms/{index}/matchExpressions"
            if term.match_expressions is None:
                yield Operation(at, wanted)
                continue
            for expression, (label, values) in zip(wanted, needs.labels, strict=True):
                if NodeRequirement(label, "In", values) not in term.match_expressions:
                    yield Operation(f"{at}/-", expression)
