"""What a starting agent does with the volumes that an earlier one served: take them over, count them, go on."""

from __future__ import annotations

import time

from agent.delivery import adoption
from agent.delivery.quota import Ledger
from agent.delivery.state import StateFiles, VolumeState
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.delivery.volumes import Volumes
from agent.node_kernel import NodeKernel
from agent.observe.conditions import Reason
from agent.observe.records import Adopted
from agent.telling import Telling


async def take_over(
    volumes: Volumes,
    states: StateFiles,
    tmpfs: TmpfsEngine,
    kernel: NodeKernel | None,
    ledger: Ledger,
    telling: Telling,
) -> int:
    """Keep what is whole, end what is not; how many volumes were kept. Raises Refused."""
    adopted = await adoption.adopt(volumes, states, tmpfs, kernel.side() if kernel else None)
    telling.metrics.adopted_volumes(adopted.kept)
    for volume_id in adopted.lost:
        why = "what it showed was gone when this agent started; kubelet publishes it again"
        telling.conditions.hold(Reason.ADOPTION_INCOMPLETE, volume_id, why)
    for state in volumes.all():
        _account(state, sum(volumes.sizes(state)), ledger, telling)
    return adopted.kept


def _account(state: VolumeState, bytes_: int, ledger: Ledger, telling: Telling) -> None:
    plan = state.plan
    pod = plan.pod
    files = len(plan.files)
    ledger.adopt(pod.namespace, pod.uid, plan.volume_id, bytes_, files, plan.namespace_quota, plan.pod_quota)
    telling.recorder.record(
        Adopted(
            time_ns=time.time_ns(),
            volume_id=plan.volume_id,
            namespace=pod.namespace,
            pod=pod.name,
            pod_uid=pod.uid,
            engine=state.engine.value,
            files=files,
            mode=plan.mode.value,
        )
    )
