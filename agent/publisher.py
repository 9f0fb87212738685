"""A volume from kubelet's request to its mount: claims checked against the cluster, tokens verified, values fetched,
quota, engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent.decision import agree, claimed, decide, refresh
from agent.delivery.mounts import MountError
from agent.delivery.quota import Ledger
from agent.delivery.state import StateUnwritable, VolumeState
from agent.delivery.volumes import Volumes
from agent.kernel.calls import KernelError
from agent.kernel_limits import limit_met
from agent.kube.cluster import Cluster
from agent.live_pods import is_gone, judged
from agent.model import PublishRequest, SecretRef, SecretVersion, ShimRequest, VolumePlan
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.pod_tokens import PodTokens
from agent.publish_records import publish_refused, published, served_unenforced, unpublished
from agent.secrets.contents import Contents
from agent.shim_publisher import ShimPublisher
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode
from kernelsecret.registration import Registration


class NodePublisher:
    """The CSI door's `Publisher`. One call at a time for each volume; different volumes side by side."""

    def __init__(
        self,
        node: str,
        cluster: Cluster,
        volumes: Volumes,
        shims: ShimPublisher,
        contents: Contents,
        tokens: PodTokens,
        ledger: Ledger,
        metrics: Metrics,
        conditions: Conditions,
        recorder: Recorder,
        *,
        sources: Collection[str] = ("file",),
        on_published: Callable[[str], None] = lambda volume_id: None,
        on_ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_published` hears the id of every volume that is published, or asked for again; `on_ended` that one has
        ended, and what it showed may be shown by nobody."""
        self._node, self._cluster, self._volumes, self._shims = node, cluster, volumes, shims
        self._contents, self._tokens = contents, tokens
        self._ledger, self._metrics, self._conditions, self._recorder = ledger, metrics, conditions, recorder
        self._sources, self._on_published, self._on_ended = tuple(sources), on_published, on_ended
        self.is_ready = False

    async def ready(self) -> bool:
        """Probed and adopted."""
        return self.is_ready

    async def publish(self, request: PublishRequest | ShimRequest) -> None:
        """Serve the volume at its target; published again it is a refresh."""
        if not self.is_ready:
            raise _not_ready()
        try:
            if isinstance(request, ShimRequest):
                await self._shims.publish(request)
            else:
                await self._publish(request)
        except Refused as refusal:
            self._recorder.record(publish_refused(request, refusal))
            raise

    async def unpublish(self, volume_id: str, target_path: Path) -> None:
        """Take the volume away; one that never was is no error."""
        if not self.is_ready:
            raise _not_ready()
        self._metrics.refresh()
        self._contents.forget(volume_id)
        if not await self._end(volume_id, "requested") and not self._shims.unpublish(volume_id, "requested"):
            self._volumes.clear_target(target_path)

    async def end_orphans(self, is_on_node: Callable[[str], bool]) -> int:
        """End volumes whose pod is gone: neither the cluster has it nor, by `is_on_node(uid)`, this node.

        How many there were. Where the cluster cannot be asked, nothing is ended.
        """
        ended = await self._shims.end_orphans(is_on_node)
        for state in self._volumes.all():
            if not is_on_node(state.plan.pod.uid) and await is_gone(self._cluster, state.plan.pod):
                ended += await self._end(state.plan.volume_id, "orphan")
        return ended

    async def _end(self, volume_id: str, reason: str) -> bool:
        state = await self._volumes.unpublish(volume_id)
        self._conditions.clear(Reason.ADOPTION_INCOMPLETE, volume_id)
        if state is None:
            return False
        self._ledger.release(volume_id)
        for held in (Reason.QUOTA_EXCEEDED, Reason.RIGHT_ENDED):
            self._conditions.clear(held, volume_id)
        pod = state.plan.pod
        self._on_ended()
        self._tokens.release(pod)
        if not self._ledger.usage(pod.namespace).volumes:
            self._metrics.forget_namespace(pod.namespace)
        self._recorder.record(unpublished(volume_id, pod, reason))
        return True

    async def _publish(self, request: PublishRequest) -> None:
        if (known := self._volumes.get(request.volume_id)) is not None:
            await self._refresh(request, known.plan)
            return
        tokens = self._tokens.begin(request)
        with self._tokens.publishing(request.pod):
            try:
                plan = await self._decide(request)
                self._volumes.check(plan)
                await self._tokens.take(request, tokens, plan)
            finally:
                tokens.cancel()
            with self._contents.holding(plan):
                versions = await self._contents.current(plan)
                # Nothing waits from here on: what was fetched is what is shown.
                self._volumes.check(plan)
                self._reserve(plan, versions)
                state = await self._begin(plan, versions)
                self._contents.published(versions)
        self._recorder.record(published(state, versions))
        if plan.mode is Mode.EBPF and not self._volumes.engine_of(plan).enforces_access:
            self._metrics.unenforced_volume(state.engine.value)
            self._recorder.record(served_unenforced(state, self._volumes.reason))
        self._on_published(plan.volume_id)

    async def _refresh(self, request: PublishRequest, known: VolumePlan) -> None:
        """Asked for again: whose it is must still agree, and what it may show is looked at beside.

        It is no error that its right has ended: what its readers meet then has been decided. Nor that the cluster
        cannot be asked: nothing is opened by it, and a container that restarts meanwhile must find its volume.
        """
        try:
            plan = await judged(self._cluster, request.pod, lambda pod: refresh(request, pod, self._node, known))
        except Refused as refusal:
            if refusal.code is not Code.UNAVAILABLE:
                raise
            plan = claimed(request, known)
        self._volumes.check(plan)
        await self._tokens.renew(request)
        self._volumes.show_again(known.volume_id)
        self._on_published(known.volume_id)

    async def _decide(self, request: PublishRequest) -> VolumePlan:
        """By what is held of the cluster; and by what it says just now before anything is refused."""
        registration = asyncio.ensure_future(self._cluster.registration(request.pod))
        registration.add_done_callback(_looked_at)
        try:
            try:
                return await self._decide_by(request, registration, fresh=False)
            except Refused as refused:
                if registration.done() and registration.exception() is refused:
                    raise
            return await self._decide_by(request, registration, fresh=True)
        finally:
            registration.cancel()

    async def _decide_by(
        self, request: PublishRequest, registration: asyncio.Future[Registration], *, fresh: bool
    ) -> VolumePlan:
        asked = request.pod
        pod, interceptor = await asyncio.gather(
            self._cluster.pod(asked.namespace, asked.name, asked.uid, fresh=fresh),
            self._cluster.interceptor(request.interceptor, fresh=fresh),
        )
        agree(request, pod, interceptor, self._node)  # said before anybody else's word of it
        now, sources = datetime.now(UTC), self._sources
        return decide(request, pod, interceptor, await registration, self._node, now=now, sources=sources)

    def _reserve(self, plan: VolumePlan, versions: Mapping[SecretRef, SecretVersion]) -> None:
        size = sum(len(versions[file.ref].values[file.key]) for file in plan.files)
        self._ledger.reserve(
            plan.pod.namespace,
            plan.pod.uid,
            plan.volume_id,
            size,
            len(plan.files),
            plan.namespace_quota,
            plan.pod_quota,
        )

    async def _begin(self, plan: VolumePlan, versions: Mapping[SecretRef, SecretVersion]) -> VolumeState:
        try:
            state = await self._volumes.publish(plan, versions)
        except BaseException as error:
            self._ledger.release(plan.volume_id)
            if isinstance(error, StateUnwritable):
                self._conditions.hold(Reason.STATE_UNWRITABLE, why=str(error))
            if isinstance(error, KernelError | MountError | OSError):
                raise limit_met(plan, error, self._conditions, self._recorder) from error
            raise
        for reason in (Reason.KERNEL_LIMIT, Reason.BPFFS_READ_ONLY, Reason.STATE_UNWRITABLE):
            self._conditions.clear(reason)
        self._conditions.clear(Reason.ADOPTION_INCOMPLETE, plan.volume_id)
        return state


def _looked_at(registration: asyncio.Future[Registration]) -> None:
    """Where something else was refused first nobody asks what became of it, and asyncio would complain."""
    if not registration.cancelled():
        registration.exception()


def _not_ready() -> Refused:
    return Refused(Code.UNAVAILABLE, "agent", "is still taking over this node's volumes", "kubelet tries again")
