"""Looks after the rights of published volumes: closes or keeps those whose right has ended, and gives it back.

Judged anew at every change of the cluster's view, when a volume is published or asked for again, and at the start.
Where the cluster cannot be asked everything stays as it is: not known is not ended, and a volume that was closed is
opened by nobody but an agent that knows better.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from agent.delivery.mounts import MountError
from agent.delivery.state import StateUnwritable, VolumeState
from agent.delivery.volumes import Volumes
from agent.kernel.calls import KernelError
from agent.kube.cluster import Cluster, LivePod
from agent.model import SecretRef, SecretVersion, VolumePlan
from agent.observe.conditions import Conditions, Reason
from agent.observe.recorder import Recorder
from agent.observe.records import RightEnded, RightReturned
from agent.policy import with_policy
from agent.right import ended
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import SecretInterceptor
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

AGAIN_S = 5.0
"""When to try again what could not be judged or done."""
AT_ONCE = 16
"""Volumes that are judged side by side: each may take questions to the API server."""

log = get_logger("rights")


class Values(Protocol):
    """Where the values of a volume come from."""

    def holding(self, plan: VolumePlan) -> AbstractContextManager[None]:
        """What the plan shows stays watched meanwhile."""

    async def current(self, plan: VolumePlan) -> Mapping[SecretRef, SecretVersion]:
        """The current versions of all that the plan shows, complete and within its bounds. Raises Refused."""


class _Unknown(Exception):
    """The cluster does not have the pod: kubelet ends its volumes, nobody else."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Why the right has ended, None while it holds; and whose word that is."""

    why: Refused | None
    pod: LivePod
    interceptor: SecretInterceptor | None


class Rights:
    """The rights of all volumes. Use it on one event loop."""

    def __init__(
        self,
        cluster: Cluster,
        volumes: Volumes,
        values: Values,
        sources: Collection[str],
        conditions: Conditions,
        recorder: Recorder,
        *,
        on_returned: Callable[[VolumeState], None] = lambda state: None,
        on_ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_ended` hears that volumes may show what nobody has a right to any more."""
        self._cluster, self._volumes, self._values, self._sources = cluster, volumes, values, tuple(sources)
        self._conditions, self._recorder = conditions, recorder
        self._on_returned, self._on_ended = on_returned, on_ended
        self._wake = asyncio.Event()
        self._asked: set[str] = set()
        self._all = True

    def look(self, volume_id: str = "") -> None:
        """Something may have changed, for this volume or for any: judge soon."""
        if volume_id:
            self._asked.add(volume_id)
        else:
            self._all = True
        self._wake.set()

    def recall(self) -> None:
        """Say again of each volume what an earlier agent said."""
        for state in self._volumes.all():
            if state.ended:
                self._conditions.hold(Reason.RIGHT_ENDED, state.plan.volume_id, state.ended)

    async def run(self) -> None:
        """Judge at every change, until cancelled."""
        while True:
            self._wake.clear()
            is_done = await self.judge()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if is_done else AGAIN_S)

    async def judge(self) -> bool:
        """Judge whatever has to be; whether nothing is left to be tried again."""
        names = {state.plan.volume_id for state in self._volumes.all()} if self._all else set(self._asked)
        self._all = False
        self._asked.clear()
        left = sorted(names)
        done: set[str] = set()
        for first in range(0, len(left), AT_ONCE):
            group = left[first : first + AT_ONCE]
            verdicts = await asyncio.gather(*map(self._settled, group))
            done |= {volume_id for volume_id, verdict in zip(group, verdicts, strict=True) if verdict}
            if None in verdicts:
                break  # nor would the others be known
        self._asked |= names - done
        return done == names

    async def _settled(self, volume_id: str) -> bool | None:
        """Whether a volume is as it should be; None where the cluster does not answer."""
        try:
            return await self._judge(volume_id)
        except _Unknown:
            return True
        except Refused as refusal:
            return None if refusal.code is Code.UNAVAILABLE else False

    async def _judge(self, volume_id: str) -> bool:
        state = self._volumes.get(volume_id)
        if state is None:
            return True
        verdict = await self._verdict(state, fresh=False)
        if verdict.why is not None and not self._is_ended(state):
            try:  # what is held may be older than what let it be published
                verdict = await self._verdict(state, fresh=True)
            except Refused as refusal:
                if refusal.code is not Code.UNAVAILABLE:
                    raise
        state = self._volumes.get(volume_id)
        if state is None:
            return True
        if verdict.why is not None:
            return self._is_ended(state) or self._end(state, verdict.why)
        if not self._volumes.is_served(state):
            return await self._return(state)
        return verdict.interceptor is None or self._follow_policy(state, verdict.pod, verdict.interceptor)

    def _is_ended(self, state: VolumeState) -> bool:
        """Done, and said: an agent may have died after it closed a volume and before it told anybody."""
        return bool(state.ended) and self._volumes.is_withheld(state)

    async def _verdict(self, state: VolumeState, *, fresh: bool) -> _Verdict:
        plan = state.plan
        try:
            pod = await self._cluster.pod(plan.pod.namespace, plan.pod.name, plan.pod.uid, fresh=fresh)
        except Refused as refusal:
            if refusal.code is Code.NOT_FOUND:
                raise _Unknown from None
            raise
        if pod.uid != plan.pod.uid:
            raise _Unknown
        interceptor = await self._interceptor(plan.interceptor, fresh)
        enforces = self._volumes.enforces_access(state)
        why = ended(plan, pod, interceptor, self._sources, enforces_access=enforces)
        return _Verdict(why, pod, interceptor)

    async def _interceptor(self, name: str, fresh: bool) -> SecretInterceptor | None:
        try:
            return await self._cluster.interceptor(name, fresh=fresh)
        except Refused as refusal:
            if refusal.code is Code.NOT_FOUND:
                return None
            raise

    def _end(self, state: VolumeState, why: Refused) -> bool:
        plan = state.plan
        is_done = self._tried(plan, lambda: self._volumes.end_right(plan.volume_id, str(why)))
        if not self._volumes.is_withheld(self._volumes.get(plan.volume_id) or state):
            return False
        self._conditions.hold(Reason.RIGHT_ENDED, plan.volume_id, str(why))
        policy, now = plan.on_unavailable.value, time.time_ns()
        log.warning(Event.RIGHT_ENDED, **_named(plan), action=policy, **problem(why))
        self._recorder.record(RightEnded(time_ns=now, **_named(plan), policy=policy, field=why.field, why=why.why))
        self._on_ended()
        return is_done

    async def _return(self, state: VolumeState) -> bool:
        """Its secrets were not looked at while nobody had a right to them: read anew, whatever the engine needs."""
        plan = state.plan
        with self._values.holding(plan):
            try:
                versions = await self._values.current(plan)
            except Refused as refusal:
                log.warning(Event.RIGHT_FAILED, volume_id=plan.volume_id, pod=plan.pod.name, **problem(refusal))
                return False
            if self._volumes.get(plan.volume_id) is None:
                return True
            is_done = self._tried(plan, lambda: self._volumes.return_right(plan.volume_id, versions))
        returned = self._volumes.get(plan.volume_id)
        if returned is None or not self._volumes.is_served(returned):
            return False
        self._conditions.clear(Reason.RIGHT_ENDED, plan.volume_id)
        log.info(Event.RIGHT_RETURNED, **_named(plan))
        self._recorder.record(RightReturned(time_ns=time.time_ns(), **_named(plan)))
        self._on_returned(returned)
        return is_done

    def _follow_policy(self, state: VolumeState, pod: LivePod, interceptor: SecretInterceptor) -> bool:
        """While the right holds, the interceptor says how soon changes are shown, and what is to happen at its end."""
        plan = with_policy(state.plan, interceptor.spec, pod)
        return plan == state.plan or self._tried(plan, lambda: self._volumes.set_plan(plan))

    def _tried(self, plan: VolumePlan, act: Callable[[], None]) -> bool:
        try:
            act()
        except (Refused, KernelError, MountError, OSError) as error:
            log.error(Event.RIGHT_FAILED, volume_id=plan.volume_id, pod=plan.pod.name, **problem(error))
            if isinstance(error, StateUnwritable):
                self._conditions.hold(Reason.STATE_UNWRITABLE, why=str(error))
            return False
        return True


def _named(plan: VolumePlan) -> dict[str, str]:
    pod = plan.pod
    return {
        "volume_id": plan.volume_id,
        "namespace": pod.namespace,
        "pod": pod.name,
        "pod_uid": pod.uid,
        "interceptor": plan.interceptor,
    }
