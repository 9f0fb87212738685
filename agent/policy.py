"""What an interceptor says of a volume's future: how soon changes are looked for and passed on, when old credentials
end, what happens when the right ends. It reaches running volumes for as long as their right holds. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from agent.kube.cluster import LivePod
from agent.model import OnUnavailable, VolumePlan
from kernelsecret.interceptor import InterceptorSpec
from kernelsecret.quantities import seconds


def with_policy(plan: VolumePlan, spec: InterceptorSpec, pod: LivePod) -> VolumePlan:
    """The plan with the policy of now. The pod's namespace can only lengthen the time between two looks."""
    rotation = spec.rotation
    return replace(
        plan,
        on_unavailable=OnUnavailable(spec.delivery.on_unavailable),
        min_interval_s=seconds(rotation.min_interval),
        poll_s=max(seconds(rotation.poll_interval), pod.least_poll_s),
        revoke_after_s=seconds(rotation.revoke_after),
    )
