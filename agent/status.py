"""What the agent serves, as the status document shows it: names, counts and generations, never a value. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.delivery.shims import Shims
from agent.delivery.state import KernelState, VolumeState
from agent.delivery.volumes import Volumes
from agent.kernel.store import Maps


def served_status(volumes: Volumes | None, maps: Maps | None) -> Mapping[str, Any]:
    """`volumes` and, where the kernel serves them, `kernel`; JSON-ready."""
    shown = [_volume(state, maps) for state in volumes.all()] if volumes else []
    return {"kernel": _kernel(maps) if maps else {}, "volumes": shown}


def shims_status(shims: Shims) -> list[Mapping[str, str]]:
    """Which pods are shown which content of the shim; JSON-ready."""
    return [
        {
            "volume_id": state.volume_id,
            "namespace": state.pod.namespace,
            "pod": state.pod.name,
            "content": state.content,
        }
        for state in shims.all()
    ]


def _kernel(maps: Maps) -> Mapping[str, int]:
    return {
        "events_lost": maps.counters.events_lost,
        "lineage_lost": maps.counters.lineage_lost,
        "unknown_reads": maps.counters.unknown_reads,
        "chunks_used": maps.chunks_used,
        "secrets": maps.sets.used,
    }


def _volume(state: VolumeState, maps: Maps | None) -> Mapping[str, Any]:
    plan = state.plan
    shown: dict[str, Any] = {
        "volume_id": plan.volume_id,
        "namespace": plan.pod.namespace,
        "pod": plan.pod.name,
        "interceptor": plan.interceptor,
        "mode": plan.mode.value,
        "engine": state.engine.value,
        "access": plan.access.from_.value,
        "on_unavailable": plan.on_unavailable.value,
        "ended": state.ended,
        "files": [{"name": file.name, "secret": str(file.ref), "key": file.key} for file in plan.files],
    }
    return shown | _counted(state.kernel, maps) if state.kernel and maps else shown


def _counted(kernel: KernelState, maps: Maps) -> dict[str, Any]:
    grant = maps.grants[kernel.grant_slot]
    return {
        "served": grant.served,
        "refused": sum(grant.refused),
        "generations": {str(shown.ref): maps.sets[shown.slot].current for shown in kernel.sets},
    }
