"""Whether a pod may have the shim's volume. Pure: facts come in, a refusal comes out.

The shim is no secret. It is withheld all the same from a pod that did not opt in: what a node puts into the programs of
a pod is the pod's choice.
"""

from __future__ import annotations

from agent.decision import denied, namespace_opted_in, same_pod
from agent.kube.cluster import LivePod
from agent.model import ShimRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode
from kernelsecret.names import ANNOTATION_CHOSEN_MODE, ANNOTATION_INJECT, ANNOTATION_INJECT_OFF, ATTRIBUTE_SHIM
from kernelsecret.problems import quoted


def shim_agrees(request: ShimRequest, pod: LivePod, node: str) -> None:
    """Whose volume it is: enough for one that is published. Raises Refused with the field named."""
    same_pod(request.pod, pod, node)
    name = request.target_path.parent.name
    volume = pod.volumes.get(name)
    if volume is None:
        raise denied("spec.volumes", f"the live pod has no volume {quoted(name)} of this driver")
    if not volume.is_shim:
        at = f"spec.volumes[{name}].csi.volumeAttributes"
        raise denied(at, f"the live pod's does not ask for {ATTRIBUTE_SHIM}")


def shim_allowed(request: ShimRequest, pod: LivePod, node: str) -> None:
    """Whether the pod may have a new one. Raises Refused with the field named."""
    shim_agrees(request, pod, node)
    if pod.deleted:
        raise Refused(Code.FAILED_PRECONDITION, "metadata.deletionTimestamp", "the pod is being deleted")
    namespace_opted_in(pod)
    if pod.annotations.get(ANNOTATION_INJECT) in (None, ANNOTATION_INJECT_OFF):
        why = "the pod has not opted in"
        raise denied(f"metadata.annotations[{ANNOTATION_INJECT}]", why, "annotate the pod, or take the volume out")
    chosen = pod.annotations.get(ANNOTATION_CHOSEN_MODE)
    if chosen != Mode.PRELOAD:
        why = f"{'missing' if chosen is None else quoted(chosen)}, and the shim is for the mode '{Mode.PRELOAD}' alone"
        fix = "create the pod anew without the volume, admission adds it where it is needed"
        raise denied(f"metadata.annotations[{ANNOTATION_CHOSEN_MODE}]", why, fix)
