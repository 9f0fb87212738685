"""A volume of the shim from kubelet's request to its mount: claims checked against the cluster, then shown."""

from __future__ import annotations

from collections.abc import Callable

from agent.delivery.mounts import MountError
from agent.delivery.shims import Shims
from agent.delivery.state import StateUnwritable
from agent.kernel_limits import limit_met
from agent.kube.cluster import Cluster
from agent.live_pods import is_gone, judged
from agent.model import ShimRequest
from agent.observe.conditions import Conditions, Reason
from agent.observe.recorder import Recorder
from agent.publish_records import unpublished
from agent.shim_decision import shim_agrees, shim_allowed
from kernelsecret.errors import Code, Refused


class ShimPublisher:
    """One call at a time for each volume; different volumes side by side."""

    def __init__(self, node: str, cluster: Cluster, shims: Shims, conditions: Conditions, recorder: Recorder) -> None:
        self._node, self._cluster, self._shims = node, cluster, shims
        self._conditions, self._recorder = conditions, recorder

    async def publish(self, request: ShimRequest) -> None:
        """Show the shim to a pod that may have it. Raises Refused. As with secrets, one that is shown needs only to be
        the pod's, and stays where the cluster cannot be asked."""
        is_known = self._shims.get(request.volume_id) is not None
        judge = shim_agrees if is_known else shim_allowed
        try:
            await judged(self._cluster, request.pod, lambda pod: judge(request, pod, self._node))
        except Refused as refusal:
            if not is_known or refusal.code is not Code.UNAVAILABLE:
                raise
        try:
            self._shims.publish(request)
        except StateUnwritable as error:
            self._conditions.hold(Reason.STATE_UNWRITABLE, why=str(error))
            raise
        except (MountError, OSError) as error:
            raise limit_met(request, error, self._conditions, self._recorder) from error

    def unpublish(self, volume_id: str, reason: str) -> bool:
        """Take the volume away; whether there was one."""
        state = self._shims.unpublish(volume_id)
        if state is None:
            return False
        self._recorder.record(unpublished(volume_id, state.pod, reason))
        return True

    async def end_orphans(self, is_on_node: Callable[[str], bool]) -> int:
        """End volumes whose pod is gone, as NodePublisher.end_orphans; how many."""
        ended = 0
        for state in self._shims.all():
            if not is_on_node(state.pod.uid) and await is_gone(self._cluster, state.pod):
                ended += self.unpublish(state.volume_id, "orphan")
        return ended
