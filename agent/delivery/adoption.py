"""What a starting agent does with what an earlier one left: keep what is whole, end the rest, free what nobody owns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.delivery import mounts
from agent.delivery.binaries import Binaries
from agent.delivery.engine import Engine
from agent.delivery.graveyard import Graveyard
from agent.delivery.iter_engine import IterEngine
from agent.delivery.pods import Pods
from agent.delivery.shared import SharedSecrets
from agent.delivery.state import Phase, StateFiles, VolumeState
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.delivery.volumes import Volumes
from agent.kernel.programs import Programs
from agent.kernel.store import Maps
from agent.model import EngineName
from kernelsecret.errors import Code, Refused


@dataclass(frozen=True, slots=True)
class Adopted:
    """How many volumes were taken over, ended because they were not whole, and found without an owner. `lost` are those
    ended that had been published: their pods have no files until kubelet asks again."""

    kept: int
    ended: int
    leftovers: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelSide:
    """The parts of the engine `iter` that adoption works on."""

    engine: IterEngine
    programs: Programs
    maps: Maps
    secrets: SharedSecrets
    pods: Pods
    binaries: Binaries
    grave: Graveyard


async def adopt(volumes: Volumes, states: StateFiles, tmpfs: TmpfsEngine, kernel: KernelSide | None) -> Adopted:
    """Take over the node. Every volume that is left is served, and nothing else of ours remains.

    Raises Refused where live volumes would have to be ended, because the kernel side cannot be had just now.
    """
    mounted = {mount.point for mount in mounts.read_mounts()}
    kept: list[VolumeState] = []
    broken: list[VolumeState] = []
    left = states.load()
    if kernel is None:
        _refuse_to_end(state for state in left if str(state.plan.target_path) in mounted)
    for state in left:
        engine: Engine | None = tmpfs if state.engine is EngineName.TMPFS else kernel.engine if kernel else None
        is_whole = state.phase is Phase.PUBLISHED and engine is not None and engine.is_whole(state, mounted)
        (kept if is_whole else broken).append(state)
    sweep = _adopt_kernel(kernel, kept) if kernel else _nothing
    for state in kept:
        volumes.add(state)
        if state.engine is EngineName.TMPFS:
            tmpfs.adopt(state)
    if kernel:
        await kernel.grave.grace()
    sweep()
    for state in broken:
        await volumes.end(VolumeState(state.plan, state.engine, state.phase))
    leftovers = _end_leftovers(volumes, tmpfs, kernel)
    if kernel:
        _refresh(kernel, kept)
    lost = tuple(state.plan.volume_id for state in broken if state.phase is Phase.PUBLISHED)
    return Adopted(len(kept), len(broken), leftovers, lost)


def _refuse_to_end(live: Iterable[VolumeState]) -> None:
    """Readers go on without an agent; one that cannot serve their volumes must not take them away."""
    if count := sum(state.engine is EngineName.ITER for state in live):
        raise Refused(
            Code.FAILED_PRECONDITION,
            "node",
            f"volumes that are served from the kernel ({count}) cannot be taken over without it",
            "mend what the log says of the probe, or end them with `kernelsecret-ctl agent --clean`",
        )


def _nothing() -> None:
    """There is no kernel side to sweep."""


def _adopt_kernel(kernel: KernelSide, kept: list[VolumeState]) -> Callable[[], None]:
    """Cut what no kept volume owns; what is returned frees it, after a grace period."""
    shown = [(state, state.kernel) for state in kept if state.kernel is not None]
    sets = {state.plan.volume_id: [(s.ref, s.set_id, s.slot, s.items) for s in part.sets] for state, part in shown}
    kept_sets = {state.plan.volume_id: [(s.ref, s.set_id, s.slot, s.items) for s in part.kept] for state, part in shown}
    for state, _ in shown:
        kernel.engine.adopt(state)
    sweep_secrets = kernel.secrets.adopt(sets, kept_sets)
    kernel.pods.adopt((state.plan, part.pod_id, part.cgroup_id) for state, part in shown)
    grants = kernel.maps.grants
    used = {part.grant_slot for _, part in shown}
    unowned = [slot for slot in grants.in_use() if slot not in used]
    for slot in unowned:
        grants[slot].id = 0
    owned = {part.grant_id for _, part in shown}
    leading = {part.files_id for _, part in shown}

    def sweep() -> None:
        sweep_secrets()
        for file in kernel.maps.files():
            if file.files_id not in leading:
                kernel.maps.drop_file(file.files_id, file.inode)
        for binary in kernel.maps.binaries():
            if binary.grant_id not in owned:
                kernel.maps.drop_binary(binary)
        for slot in unowned:
            grants.clear(slot)
            grants.free(slot)

    return sweep


def _end_leftovers(volumes: Volumes, tmpfs: TmpfsEngine, kernel: KernelSide | None) -> int:
    owned = {state.name for state in volumes.all()}
    names = tmpfs.leftovers(owned)
    if kernel:
        names |= kernel.engine.leftovers(owned)
    for name in names:
        tmpfs.clear(name)
        if kernel:
            kernel.engine.clear(name)
    return len(names)


def _refresh(kernel: KernelSide, kept: list[VolumeState]) -> None:
    is_upgrade = bool(kernel.programs.others())
    for state in kept:
        if state.engine is not EngineName.ITER:
            continue
        if is_upgrade:
            kernel.engine.replace_program(state)
        if not state.ended:
            kernel.engine.touch_stale(state)
    kernel.programs.drop_others()
    kernel.binaries.adopt(kept)
