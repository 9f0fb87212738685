"""What is written down of volumes that come and go. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.delivery.state import VolumeState
from agent.model import PodRef, PublishRequest, SecretRef, SecretVersion, ShimRequest
from agent.observe.records import Published, PublishRefused, ServedUnenforced, Unpublished
from kernelsecret.errors import Refused


def published(state: VolumeState, versions: Mapping[SecretRef, SecretVersion]) -> Published:
    """A volume is there, with these versions."""
    plan = state.plan
    return Published(
        time_ns=time.time_ns(),
        **_whose(plan.volume_id, plan.pod),
        service_account=plan.pod.service_account,
        interceptor=plan.interceptor,
        engine=state.engine.value,
        files=len(plan.files),
        bytes_=sum(len(versions[file.ref].values[file.key]) for file in plan.files),
        mode=plan.mode.value,
    )


def served_unenforced(state: VolumeState, why: str) -> ServedUnenforced:
    """A volume is there, and the node cannot hold its access rule."""
    plan = state.plan
    return ServedUnenforced(
        time_ns=time.time_ns(),
        **_whose(plan.volume_id, plan.pod),
        interceptor=plan.interceptor,
        engine=state.engine.value,
        access=plan.access.from_.value,
        why=why,
    )


def publish_refused(request: PublishRequest | ShimRequest, refusal: Refused) -> PublishRefused:
    """A volume was asked for, and is not there."""
    return PublishRefused(
        time_ns=time.time_ns(),
        **_whose(request.volume_id, request.pod),
        interceptor=request.interceptor if isinstance(request, PublishRequest) else "",
        code=refusal.code.value,
        field=refusal.field,
        why=refusal.why,
    )


def unpublished(volume_id: str, pod: PodRef, reason: str) -> Unpublished:
    """A volume has ended."""
    return Unpublished(
        time_ns=time.time_ns(),
        **_whose(volume_id, pod),
        reason=reason,
    )


def _whose(volume_id: str, pod: PodRef) -> dict[str, str]:
    return {"volume_id": volume_id, "namespace": pod.namespace, "pod": pod.name, "pod_uid": pod.uid}
