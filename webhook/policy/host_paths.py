"""Folders of the node that are ours, and the pods that would mount them by a hostPath volume. Pure.

Folders *above* ours are not refused: storage drivers and node exporters of others mount them, and a product that kept
these from starting would do more harm than it prevents. An admission policy warns of them instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kernelsecret.names import DRIVER_NAME
from kernelsecret.problems import quoted
from webhook.policy.pods import PodSpec
from webhook.policy.steps import Refusal, Rule
from webhook.policy.volumes import is_in, same_place

OUR_PATHS: Final = (
    "/run/kernelsecret",
    "/etc/kernelsecret",
    "/var/log/kernelsecret",
    f"/var/lib/kubelet/plugins/{DRIVER_NAME}",
    f"/var/lib/kubelet/plugins_registry/{DRIVER_NAME}-reg.sock",
)
"""With the defaults of the agent's settings and of kubelet's root folder."""


def host_path_refusals(spec: PodSpec) -> Iterator[Refusal]:
    """What the pod may not mount."""
    for index, volume in enumerate(spec.volumes or ()):
        if volume.host_path is None or not volume.host_path.path:
            continue
        shown = same_place(volume.host_path.path)
        if any(is_in(shown, ours) for ours in OUR_PATHS):
            at = f"spec.volumes[{index}].hostPath.path"
            why = f"{quoted(shown)} is a folder of the agent of this node"
            yield Refusal(Rule.HOST_PATH, at, why, "pods get secrets by opting in; remove the volume")
