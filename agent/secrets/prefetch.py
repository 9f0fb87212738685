"""Fetches ahead of the mount what a pod that was just bound to this node will show.

Only what needs no credential of the pod, for a short time, and so much at most: a registration opens nothing, and one
that is never followed by a pod costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.kube.cluster import Cluster
from agent.model import Source
from agent.planning import planned_files
from agent.secrets.rotation import Rotator
from kernelsecret.errors import Refused
from kernelsecret.registration import Registration

LASTS_S = 120.0
"""Kubelet mounts a pod's volumes within seconds; an image that has to be pulled comes after that."""
AT_ONCE = 32


class Prefetch:
    """Hears of registrations. Use it on one event loop."""

    def __init__(self, cluster: Cluster, rotator: Rotator, sources: Mapping[str, Source]) -> None:
        self._cluster, self._rotator, self._sources = cluster, rotator, sources
        self._tasks: set[asyncio.Task[None]] = set()

    def registered(self, registration: Registration) -> None:
        """A pod was bound to this node. Returns at once; what is too much is left to its publish."""
        if len(self._tasks) >= AT_ONCE:
            return
        task = asyncio.create_task(self._expect(registration))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop what is under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _expect(self, registration: Registration) -> None:
        try:
            interceptor = await self._cluster.interceptor(registration.interceptor)
            files = planned_files(
                interceptor.spec, registration.namespace, registration.service_account, tuple(self._sources)
            )
        except Refused:
            return  # the publish will say it, to somebody who reads it
        await self._rotator.expect({file.ref for file in files if not file.ref.reader}, LASTS_S)
