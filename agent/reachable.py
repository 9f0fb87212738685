"""A cluster whose silence is told: the condition `cluster-unreadable` holds from the first question that it does not
answer until one that it does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.kube.cluster import Cluster, LivePod
from agent.model import PodRef
from agent.observe.conditions import Conditions, Reason
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.registration import Registration

T = TypeVar("T")


class ToldCluster:
    """Implements `agent.kube.cluster.Cluster` by another one."""

    def __init__(self, cluster: Cluster, conditions: Conditions) -> None:
        self._cluster, self._conditions = cluster, conditions

    async def pod(self, namespace: str, name: str, uid: str = "", *, fresh: bool = False) -> LivePod:
        """The pod of that name, with the labels of its namespace."""
        return await self._told(self._cluster.pod(namespace, name, uid, fresh=fresh))

    async def interceptor(self, name: str, *, fresh: bool = False) -> SecretInterceptor:
        """The interceptor, valid."""
        return await self._told(self._cluster.interceptor(name, fresh=fresh))

    async def registration(self, pod: PodRef) -> Registration:
        """What admission registered for the pod. Its silence is the webhook's, and no word of the cluster's."""
        return await self._cluster.registration(pod)

    async def run(self, changed: Callable[[], None]) -> None:
        """Look at the cluster until cancelled."""
        await self._cluster.run(changed)

    async def _told(self, asked: Awaitable[T]) -> T:
        try:
            answer = await asked
        except Refused as refusal:
            if refusal.code is Code.UNAVAILABLE:
                self._conditions.hold(Reason.CLUSTER_UNREADABLE, why=str(refusal))
            else:
                self._conditions.clear(Reason.CLUSTER_UNREADABLE)
            raise
        self._conditions.clear(Reason.CLUSTER_UNREADABLE)
        return answer
