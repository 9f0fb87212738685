"""The tokens that kubelet brings with a publish: verified each time, and held for as long as the pod has a volume."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from agent.credentials import Credentials, PodToken
from agent.delivery.volumes import Volumes
from agent.model import PodRef, PublishRequest, VolumePlan
from kernelsecret.errors import Code, Refused

Verify = Callable[[PodRef, Mapping[str, str]], Awaitable[Mapping[str, PodToken]]]
"""Whether these tokens (by audience) are the live pod's own. Raises Refused with the field named; UNAVAILABLE where
nobody can be asked."""


class PodTokens:
    """Puts verified tokens into the credentials that sources read with. Use it on one event loop."""

    def __init__(self, credentials: Credentials, verify: Verify, volumes: Volumes) -> None:
        self._credentials, self._verify, self._volumes = credentials, verify, volumes
        self._publishing: Counter[str] = Counter()

    @contextmanager
    def publishing(self, pod: PodRef) -> Iterator[None]:
        """A volume of the pod's is being made: its tokens stay, and go afterwards where it has none."""
        self._publishing[pod.uid] += 1
        try:
            yield
        finally:
            self._publishing[pod.uid] -= 1
            self.release(pod)

    def begin(self, request: PublishRequest) -> asyncio.Future[Mapping[str, PodToken]]:
        """Have the request's tokens verified, beside other work."""
        task = asyncio.ensure_future(self._verified(request))
        task.add_done_callback(_looked_at)
        return task

    async def take(
        self, request: PublishRequest, verified: Awaitable[Mapping[str, PodToken]], plan: VolumePlan
    ) -> None:
        """Hold them from now on. Raises Refused for a token that is not the pod's own, whether the volume needs one or
        not; and where nobody can be asked, unless it needs none."""
        try:
            tokens = await verified
        except Refused as refusal:
            if refusal.code is not Code.UNAVAILABLE or needs_token(plan):
                raise
            return
        if tokens:
            self._credentials.put(request.pod, tokens)

    async def renew(self, request: PublishRequest) -> None:
        """Kubelet asked again for a volume that is published. Where nobody can be asked, the earlier tokens stay: a
        container that restarts meanwhile must find its volume. Raises Refused for one that is not the pod's own."""
        try:
            tokens = await self._verified(request)
        except Refused as refusal:
            if refusal.code is not Code.UNAVAILABLE:
                raise
            return
        if tokens:
            self._credentials.put(request.pod, tokens)

    def release(self, pod: PodRef) -> None:
        """A volume of the pod's has ended: its tokens go with the last. Idempotent."""
        if self._publishing[pod.uid]:
            return
        del self._publishing[pod.uid]
        if not any(state.plan.pod.uid == pod.uid for state in self._volumes.all()):
            self._credentials.drop(pod)

    async def _verified(self, request: PublishRequest) -> Mapping[str, PodToken]:
        return await self._verify(request.pod, request.tokens) if request.tokens else {}


def needs_token(plan: VolumePlan) -> bool:
    """Whether some of what the volume shows is read as the pod."""
    return any(file.ref.reader for file in plan.files)


def _looked_at(task: asyncio.Future[Mapping[str, PodToken]]) -> None:
    """Where something else was refused first nobody asks what became of it, and asyncio would complain."""
    if not task.cancelled():
        task.exception()
