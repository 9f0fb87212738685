"""Whether a volume that is published may go on showing what it shows. Pure: facts come in, a verdict comes out.

The pod's own end is not the end of a right: a pod that is being deleted reads its secrets until its last process has
ended, and kubelet takes its volumes away then. What ends a right is that somebody withdrew it: the interceptor went or
selects it no more, the namespace's label or the pod's annotation was taken off, or the interceptor gives something
else, or waives its access rule no more where the volume cannot hold it.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.decision import opted_in
from agent.kube.cluster import LivePod
from agent.model import VolumePlan
from agent.planning import planned_access, planned_files
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor, Unenforced
from kernelsecret.problems import quoted


def ended(
    plan: VolumePlan,
    pod: LivePod,
    interceptor: SecretInterceptor | None,
    sources: Collection[str],
    *,
    enforces_access: bool,
) -> Refused | None:
    """Why the pod has no right to the volume any more, with the field named; None while it has.

    `interceptor` is None where there is none of the plan's name. `sources` are the agent's. `enforces_access`: the
    volume's engine holds the access rule.
    """
    if interceptor is None:
        fix = "create it again, or take the annotation off the pod's template"
        return Refused(Code.NOT_FOUND, f"interceptor {plan.interceptor}", "was deleted", fix)
    try:
        opted_in(pod, interceptor)
        given = set(planned_files(interceptor.spec, pod.namespace, pod.service_account, sources))
    except Refused as refused:
        return refused
    at = f"interceptor {plan.interceptor}"
    for file in plan.files:
        if file not in given:
            why = f"does not give the file {quoted(file.name)} as the volume shows it (source, key and mode)"
            return Refused(Code.PERMISSION_DENIED, f"{at}: spec.secrets", why, "restart the pod to get what it gives")
    if planned_access(interceptor.spec) != plan.access:
        why = "is not the rule that the volume is held to"
        return Refused(Code.PERMISSION_DENIED, f"{at}: spec.access", why, "restart the pod to hold it to the new one")
    if not enforces_access and interceptor.spec.access.unenforced is not Unenforced.ALLOW:
        why = "is not `allow` any more, and the ordinary files of the volume cannot hold the access rule"
        fix = "restart the pod, which gives it what holds the rule, or set it to `allow` again"
        return Refused(Code.PERMISSION_DENIED, f"{at}: spec.access.unenforced", why, fix)
    return None
