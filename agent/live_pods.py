"""Questions about the pod of a request: by what is held of the cluster, and by what it says now before it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agent.kube.cluster import Cluster, LivePod
from agent.model import PodRef
from kernelsecret.errors import Code, Refused

T = TypeVar("T")


async def judged(cluster: Cluster, pod: PodRef, judge: Callable[[LivePod], T]) -> T:
    """What `judge` makes of the live pod; before anything is refused the cluster is asked anew. Raises Refused."""
    try:
        return judge(await cluster.pod(pod.namespace, pod.name, pod.uid))
    except Refused as refusal:
        if refusal.code is Code.UNAVAILABLE:
            raise
    return judge(await cluster.pod(pod.namespace, pod.name, pod.uid, fresh=True))


async def is_gone(cluster: Cluster, pod: PodRef) -> bool:
    """Whether the cluster has the pod no more; where it cannot be asked, that is not known, so it is not."""
    try:
        return (await cluster.pod(pod.namespace, pod.name, pod.uid, fresh=True)).uid != pod.uid
    except Refused as refusal:
        return refusal.code is Code.NOT_FOUND
