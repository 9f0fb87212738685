"""The volumes of this node: which there are, who shows what, and steps in an order that a crash may interrupt anywhere.

A state file is written before the first step and after the last one, so a restarted agent knows what is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from agent.delivery import mounts
from agent.delivery.engine import BehindError, Engine, Versions
from agent.delivery.state import Phase, StateFiles, StateUnwritable, VolumeState
from agent.model import EngineName, FilePlan, FileRead, OnUnavailable, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import Mode


class Volumes:
    """Every volume, by its id and by the secrets that it shows."""

    def __init__(
        self, engines: Mapping[EngineName, Engine], serving: EngineName, states: StateFiles, *, reason: str = ""
    ) -> None:
        """`serving` is the engine of new volumes in mode `ebpf`, for that `reason`; those in mode `preload` are made by
        `tmpfs`. Any other only ends or rotates what an earlier agent made."""
        self._engines = engines
        self._serving = engines[serving]
        self._states = states
        self.reason = reason
        """Why the engine of new volumes in mode `ebpf` is the one that it is; empty where it is the best there is."""
        self._volumes: dict[str, VolumeState] = {}
        self._showing: dict[SecretRef, dict[str, VolumeState]] = {}
        self._targets: dict[Path, str] = {}
        self._grants: dict[int, VolumeState] = {}
        self._unended: dict[str, VolumeState] = {}

    def __len__(self) -> int:
        return len(self._volumes)

    @property
    def engine(self) -> Engine:
        """The engine of new volumes in mode `ebpf`."""
        return self._serving

    def engine_of(self, plan: VolumePlan) -> Engine:
        """The engine that a new volume is made by. The shim follows ordinary files only."""
        return self._engines[EngineName.TMPFS] if plan.mode is Mode.PRELOAD else self._serving

    def all(self) -> list[VolumeState]:
        """Every published volume."""
        return list(self._volumes.values())

    def get(self, volume_id: str) -> VolumeState | None:
        """A published volume."""
        return self._volumes.get(volume_id)

    def of_grant(self, grant_id: int) -> VolumeState | None:
        """The published volume that a kernel's grant belongs to."""
        return self._grants.get(grant_id)

    def showing(self, ref: SecretRef) -> list[VolumeState]:
        """The volumes that show a secret."""
        return list(self._showing.get(ref, {}).values())

    def following(self, ref: SecretRef) -> list[VolumeState]:
        """The volumes that show a secret and get its new versions: those whose right has not ended."""
        return [state for state in self.showing(ref) if not state.ended]

    def refs(self) -> set[SecretRef]:
        """Every secret that some volume shows."""
        return set(self._showing)

    def followed(self) -> set[SecretRef]:
        """Every secret that some volume shows with a right to it."""
        return {ref for ref, shown in self._showing.items() if not all(state.ended for state in shown.values())}

    def check(self, plan: VolumePlan) -> bool:
        """Whether the volume is already published just so; refused where it is published otherwise, or cannot be."""
        known = self._volumes.get(plan.volume_id)
        if known is not None:
            for field, ours, theirs in _identity(known.plan, plan):
                if ours != theirs:
                    raise Refused(
                        Code.ALREADY_EXISTS,
                        field,
                        f"volume {plan.volume_id} is published with {ours}, not {theirs}",
                        "unpublish it first",
                    )
            return True
        if plan.volume_id in self._unended:
            raise Refused(
                Code.FAILED_PRECONDITION, "volume_id", "taking it away has failed half-way", "unpublish it first"
            )
        if (other := self._targets.get(plan.target_path)) is not None:
            raise Refused(
                Code.ALREADY_EXISTS, "target_path", f"volume {other} is published there", "unpublish it first"
            )
        engine = self.engine_of(plan)
        if not engine.enforces_access and not plan.allow_unenforced:
            by = f"by `{engine.name.value}`, which cannot hold the access rule"
            why, instead = f"this node serves {by}", "run the pod on a node with the engine `iter`"
            if plan.mode is Mode.PRELOAD:
                why, instead = f"the mode `{plan.mode}` is served {by}", "create the pod anew in the mode `ebpf`"
            fix = f"{instead}, or set it to `allow`"
            raise Refused(Code.FAILED_PRECONDITION, "spec.access.unenforced", why, fix)
        return False

    async def publish(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        """Make a volume that `check` found to be new. Either it is there as a whole afterwards, or nothing is.

        Waits for nothing where it succeeds: what the caller fetched is what is shown.
        """
        engine = self.engine_of(plan)
        begun = VolumeState(plan, engine.name, Phase.PUBLISHING)
        self._states.save(begun)
        try:
            state = engine.begin(plan, versions)
        except BaseException:
            self._states.remove(begun.name)
            raise
        try:
            self._states.save(state)
        except BaseException:
            await self.end(state)
            raise
        self.add(state)
        return state

    def show_again(self, volume_id: str) -> None:
        """Mend a target that somebody has unmounted behind the agent's back."""
        state = self._volumes[volume_id]
        self._engines[state.engine].show(state)

    async def unpublish(self, volume_id: str) -> VolumeState | None:
        """Take a volume away; None where there was none. What fails half-way is gone on with when asked again."""
        state = self._volumes.get(volume_id) or self._unended.pop(volume_id, None)
        if state is None:
            return None
        with suppress(StateUnwritable):  # a volume that has begun to end is told from a whole one without it, too
            self._states.save(VolumeState(state.plan, state.engine, Phase.UNPUBLISHING, state.kernel))
        self._remove(state)
        try:
            await self.end(state)
        except BaseException:
            self._unended[volume_id] = state
            raise
        return state

    async def end(self, state: VolumeState) -> None:
        """Clear whatever there is of a volume, and forget it."""
        engine = self._engines.get(state.engine)
        if engine is not None:
            await engine.end(state)
        else:
            self.clear_target(state.plan.target_path)
        with suppress(OSError):
            state.plan.target_path.rmdir()
        self._states.remove(state.name)

    def rotate(self, version: SecretVersion) -> set[str]:
        """Show a new version wherever there is a right to it; the keys whose value changed. Raises as engines do:
        BehindError where it is shown, but not by all."""
        changed: set[str] = set()
        behind: BehindError | None = None
        for name, engine in self._engines.items():
            volumes = [state for state in self.showing(version.ref) if state.engine is name]
            if volumes:  # also where none of them follows: who shares the secret next must find the current version
                try:
                    changed |= engine.rotate(version, [state for state in volumes if not state.ended])
                except BehindError as error:
                    behind = error
                    changed |= error.changed
        if behind is not None:
            raise BehindError(behind, behind.volume_ids, changed)
        return changed

    def enforces_access(self, state: VolumeState) -> bool:
        """Whether the access rule holds for a published volume."""
        return self._engines[state.engine].enforces_access

    def is_withheld(self, state: VolumeState) -> bool:
        """Whether its readers meet all that its policy has for a pod without a right."""
        is_refused = self._engines[state.engine].is_closed(state)
        return is_refused if state.plan.on_unavailable is OnUnavailable.REFUSE else bool(state.ended)

    def is_served(self, state: VolumeState) -> bool:
        """Whether nothing of that holds, neither by its state nor by what an earlier agent did."""
        return not state.ended and not self._engines[state.engine].is_closed(state)

    def needs_values(self, state: VolumeState) -> bool:
        """Whether its right can return only together with the values."""
        return self._engines[state.engine].needs_values

    def end_right(self, volume_id: str, why: str) -> None:
        """The pod has no right to the volume any more: its readers meet the plan's policy from now on.

        Raises KernelError, OSError, MountError or StateUnwritable. A volume to be closed is closed all the same (unless
        the engine itself failed); one that keeps its values goes on rotating until this works.
        """
        state = self._volumes[volume_id]
        engine = self._engines[state.engine]
        if state.plan.on_unavailable is OnUnavailable.REFUSE:
            engine.close(state)
            self.add(ended := replace(state, ended=why))
            self._states.save(ended)
            return
        ended = replace(engine.keep(state), ended=why)
        self._states.save(ended)
        self.add(ended)
        engine.apply(ended)

    def return_right(self, volume_id: str, versions: Versions) -> None:
        """The right is there again: current values are shown. Raises as `end_right`, and may be called again then."""
        state = self._volumes[volume_id]
        engine = self._engines[state.engine]
        if engine.is_closed(state):
            engine.reopen(state, versions)
        elif state.plan.on_unavailable is OnUnavailable.KEEP:
            state = engine.follow(state, versions)
        returned = replace(state, ended="")
        self._states.save(returned)
        self.add(returned)
        engine.apply(returned)

    def set_plan(self, plan: VolumePlan) -> None:
        """What the interceptor says now of a volume's future takes the place of what it said. Raises StateUnwritable,
        and then the volume is as it was."""
        changed = replace(self._volumes[plan.volume_id], plan=plan)
        self._states.save(changed)
        self.add(changed)

    def sizes(self, state: VolumeState) -> list[int]:
        """Bytes of the current value of each file, in the plan's order."""
        return self._engines[state.engine].sizes(state)

    def generation(self, ref: SecretRef) -> int:
        """The number of the secret's version as it is shown now; 0 where nobody counts."""
        return max((engine.generation(ref) for engine in self._engines.values()), default=0)

    def reads(self, ref: SecretRef) -> list[tuple[VolumePlan, FilePlan, FileRead]]:
        """What is known of the readers of every file that shows the secret."""
        return [
            (state.plan, file, read)
            for state in self.showing(ref)
            for file, read in self._engines[state.engine].reads(state, ref)
        ]

    def clear_target(self, target: Path) -> None:
        """Unmount what is ours at a target that belongs to no volume (its state was lost)."""
        ours = [m for m in mounts.read_mounts() if m.point == str(target) and m.source == mounts.SOURCE]
        for _ in ours:
            mounts.unmount(target)

    def add(self, state: VolumeState) -> None:
        """Count a volume in (also one that an earlier agent made)."""
        self._volumes[state.plan.volume_id] = state
        self._targets[state.plan.target_path] = state.plan.volume_id
        if state.kernel is not None:
            self._grants[state.kernel.grant_id] = state
        for file in state.plan.files:
            self._showing.setdefault(file.ref, {})[state.plan.volume_id] = state

    def _remove(self, state: VolumeState) -> None:
        self._volumes.pop(state.plan.volume_id, None)
        self._targets.pop(state.plan.target_path, None)
        if state.kernel is not None:
            self._grants.pop(state.kernel.grant_id, None)
        for ref in {file.ref for file in state.plan.files}:
            shown = self._showing.get(ref, {})
            shown.pop(state.plan.volume_id, None)
            if not shown:
                self._showing.pop(ref, None)


def _identity(known: VolumePlan, asked: VolumePlan) -> list[tuple[str, object, object]]:
    """What may not differ between two publishes of one volume. The interceptor's content may: it has its own policy."""
    return [
        ("target_path", known.target_path, asked.target_path),
        ("volume_context.pod.uid", known.pod.uid, asked.pod.uid),
        ("volume_context.pod.namespace", known.pod.namespace, asked.pod.namespace),
        ("volume_context.pod.name", known.pod.name, asked.pod.name),
        ("volume_context.serviceAccount.name", known.pod.service_account, asked.pod.service_account),
        ("volume_context.interceptor", known.interceptor, asked.interceptor),
        ("volume_capability.mount.volume_mount_group", known.fs_group, asked.fs_group),
    ]
