"""Folders of the node that are ours, and the pods that would see them by a hostPath volume. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from kernelsecret.names import DRIVER_NAME, LABEL_HOST_PATHS, LABEL_HOST_PATHS_ALLOWED
from kernelsecret.problems import quoted
from webhook.policy.pods import PodSpec
from webhook.policy.steps import Doubt, Refusal, Rule
from webhook.policy.volumes import is_in, same_place


class OurPath(NamedTuple):
    """A folder or socket of ours; `closed_above`: whether also a folder in which it lies must not be shown."""

    path: str
    closed_above: bool


OUR_PATHS: Final = (
    OurPath("/run/kernelsecret", True),
    OurPath("/etc/kernelsecret", True),
    OurPath(f"/var/lib/kubelet/plugins/{DRIVER_NAME}", True),
    OurPath(f"/var/lib/kubelet/plugins_registry/{DRIVER_NAME}-reg.sock", True),
    # It has no secrets in it, and who ships logs reads /var/log as a whole.
    OurPath("/var/log/kernelsecret", False),
)
"""With the defaults of the agent's settings and of kubelet's root folder."""


def host_path_refusals(spec: PodSpec, namespace: str, labels: Mapping[str, str] | None) -> Iterator[Refusal]:
    """What the pod may not mount. `labels` are those of its namespace, None where it is not known."""
    may_above = (labels or {}).get(LABEL_HOST_PATHS) == LABEL_HOST_PATHS_ALLOWED
    for index, volume in enumerate(spec.volumes or ()):
        if volume.host_path is None or not volume.host_path.path:
            continue
        shown = same_place(volume.host_path.path)
        at = f"spec.volumes[{index}].hostPath.path"
        for ours in OUR_PATHS:
            if is_in(shown, ours.path):
                why = f"{quoted(shown)} is a folder of the agent of this node"
                yield Refusal(Rule.HOST_PATH, at, why, "pods get secrets by opting in; remove the volume")
                break
            if ours.closed_above and not may_above and is_in(ours.path, shown):
                why = f"{quoted(shown)} has {ours.path} in it, a folder of the agent of this node"
                label_it = (
                    f"kubectl label namespace {namespace or 'NAMESPACE'} {LABEL_HOST_PATHS}={LABEL_HOST_PATHS_ALLOWED}"
                )
                fix = f"mount less of the node; for node agents that need all of it: {label_it}"
                yield Refusal(Rule.HOST_PATH, at, why, fix, doubt=Doubt(namespace=namespace))
                break
