"""The engine `iter`: files whose bytes exist only in BPF maps, each a pin of its volume's iterator link.

The volume's link and its steps map are pinned once more in the agent's own bpffs, so that a later agent can swap the
program or end the volume whatever has become of the mounts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from agent.delivery import layout, mounts
from agent.delivery.engine import Versions
from agent.delivery.graveyard import Graveyard
from agent.delivery.pods import Identity, Pods
from agent.delivery.shared import SharedSecrets
from agent.delivery.state import KernelState, Phase, SetState, VolumeState, volume_name
from agent.delivery.withdrawal import Withdrawal
from agent.kernel import calls
from agent.kernel.layout import ActionCode, FromCode, Grant
from agent.kernel.programs import Programs
from agent.kernel.store import Maps, steps_of
from agent.model import Action, EngineName, FilePlan, FileRead, From, SecretRef, SecretVersion, VolumePlan

FROM_CODE = {
    From.APP: FromCode.APP,
    From.MAIN: FromCode.MAIN,
    From.ANY: FromCode.ANY,
    From.BINARIES: FromCode.BINARIES,
}
ACTION_CODE = {Action.DENY: ActionCode.DENY, Action.KILL: ActionCode.KILL, Action.AUDIT: ActionCode.AUDIT}


class IterEngine:
    """Serves volumes from BPF maps. `root` holds the volumes' mounts, `bpffs` is the agent's own."""

    name = EngineName.ITER
    enforces_access = True
    needs_values = False

    def __init__(
        self,
        root: Path,
        bpffs: Path,
        programs: Programs,
        maps: Maps,
        secrets: SharedSecrets,
        pods: Pods,
        grave: Graveyard,
    ) -> None:
        self._root, self._programs, self._maps = root, programs, maps
        self._secrets, self._pods, self._grave = secrets, pods, grave
        self._withdrawal = Withdrawal(maps, secrets, grave)
        self._links, self._steps = bpffs / "links", bpffs / "steps"
        self._steps_made: dict[str, int] = {}
        self._links.mkdir(exist_ok=True)
        self._steps.mkdir(exist_ok=True)

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        """Make the volume and show it. Until the last step nobody can reach it, so what fails is undone at once."""
        name = volume_name(plan.volume_id)
        with ExitStack() as undo:
            sets = self._acquire(plan, versions, undo)
            identity = self._pods.follow(plan)
            undo.callback(self._pods.leave, plan)
            slot, grant_id = self._maps.grants.allocate(), self._maps.new_id()
            undo.callback(self._maps.grants.free, slot)
            undo.callback(self._maps.grants.clear, slot)
            self._maps.clear_sessions(slot)
            undo.callback(self._remove_pins, name)
            undo.callback(self._remove_mounts, name)
            store = self._make_mounts(name)
            inodes = self._make_files(plan, name, store, grant_id, slot, undo)
            self._fill_grant(self._maps.grants[slot], plan, identity, os.stat(store).st_dev)
            self._maps.grants[slot].files_id = grant_id
            self._maps.grants[slot].id = grant_id
            layout.point_data(self._root / name, ".")
            mounts.show(self._root / name, plan.target_path)
            undo.pop_all()
        device = os.stat(store).st_dev
        kernel = KernelState(grant_id, slot, identity.pod_id, identity.cgroup_id, device, inodes, sets, grant_id)
        return VolumeState(plan, self.name, Phase.PUBLISHED, kernel)

    def show(self, state: VolumeState) -> None:
        """Mount the volume at its target where it is not mounted there. Idempotent."""
        mounts.show(self._root / state.name, state.plan.target_path)

    async def end(self, state: VolumeState) -> None:
        """The grant goes first, then the mounts; what programs may still hold is freed after a grace period.

        The grant's slot is given back last: what fails before it can be done again, and a slot is freed only once.
        """
        kernel = state.kernel
        if kernel is not None and self._maps.grants[kernel.grant_slot].id == kernel.grant_id:
            self._maps.grants[kernel.grant_slot].id = 0
        self._end_steps(state.name)
        with suppress(mounts.MountError):
            mounts.unmount(state.plan.target_path)
        self._remove_mounts(state.name)
        self._remove_pins(state.name)
        await self._grave.grace()
        if kernel is None:
            return
        for inode in kernel.inodes:
            self._maps.drop_file(kernel.files_id, inode)
        for key in self._maps.binaries():
            if key.grant_id == kernel.grant_id:
                self._maps.drop_binary(key)
        for shown in kernel.sets:
            self._secrets.release(state.plan.volume_id, shown.ref)
        self._pods.leave(state.plan)
        if not self._maps.grants[kernel.grant_slot].id:
            self._maps.grants.clear(kernel.grant_slot)
            self._maps.grants.free(kernel.grant_slot)

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        """One flip for all volumes, then each is told: size, mtime, and whoever watches."""
        shared = self._secrets.get(version.ref)
        if shared is None:
            return set()
        showing = list(volumes)
        sizes = {key: len(version.values.get(key, b"")) for key in shared.items}
        # Every volume has the steps for what it shows; only growth asks each of them, however many there are.
        if any(steps_of(size) > steps_of(shared.size(key)) for key, size in sizes.items()):
            for state in showing:
                self._need_steps(state, (sizes[file.key] for file in state.plan.files if file.ref == version.ref))
        changed = self._secrets.rotate(version)
        if changed:
            for state in showing:
                self.touch(state, version.ref, changed)
        return changed

    def _need_steps(self, state: VolumeState, sizes: Iterable[int]) -> None:
        """Before a longer value is current, every volume that shows it must have the steps to read it whole."""
        kernel = state.kernel
        needed = max(map(steps_of, sizes), default=0)
        if kernel is None or needed <= self._steps_made.get(state.name, 0):
            return
        fd = calls.get(str(self._steps / state.name))
        try:
            self._maps.add_steps(fd, kernel.grant_id, kernel.grant_slot, needed)
        finally:
            os.close(fd)
        self._steps_made[state.name] = needed

    def touch(self, state: VolumeState, ref: SecretRef, keys: set[str]) -> None:
        """Set true sizes and times of the files that show these keys; watchers get IN_MODIFY, the folder's `..data`."""
        root = self._root / state.name
        shared = self._secrets.get(ref)
        if shared is None:
            return
        now = time.time_ns()
        for number, file in enumerate(state.plan.files):
            if file.ref == ref and file.key in keys:
                path = f"{root}/{layout.STORE}/{number}"
                # truncate() alone leaves the time as it was; it comes last, because it is what wakes watchers.
                os.utime(path, ns=(now, now))
                os.truncate(path, shared.size(file.key))
        layout.point_data(root, ".")

    def touch_stale(self, state: VolumeState) -> None:
        """After a restart: tell a volume of flips that an earlier agent may not have got to tell it of.

        A file whose key did not change in the last flip is told once too often rather than another never.
        """
        stale: dict[SecretRef, set[str]] = {}
        for number, file in enumerate(state.plan.files):
            shown = os.stat(self._root / state.name / layout.STORE / str(number))
            is_old = shown.st_mtime_ns < self._secrets.flipped_ns(file.ref)
            if is_old or shown.st_size != self._secrets[file.ref].size(file.key):
                stale.setdefault(file.ref, set()).add(file.key)
        for ref, keys in stale.items():
            self.touch(state, ref, keys)

    def sizes(self, state: VolumeState) -> list[int]:
        """Bytes of the current value of each file, in the plan's order."""
        return [self._withdrawal.shown(state, file.ref).size(file.key) for file in state.plan.files]

    def generation(self, ref: SecretRef) -> int:
        """As those who follow the secret are shown it."""
        shared = self._secrets.get(ref)
        return shared.generation if shared else 0

    def reads(self, state: VolumeState, ref: SecretRef) -> list[tuple[FilePlan, FileRead]]:
        """As the programs noted it in the map of files, which outlives the agent."""
        assert state.kernel is not None
        showing = [pair for pair in zip(state.plan.files, state.kernel.inodes, strict=True) if pair[0].ref == ref]
        files_id = self._maps.grants[state.kernel.grant_slot].files_id
        read = self._maps.read_generations(files_id, (inode for _, inode in showing))
        followed, shown = self._secrets[ref], self._withdrawal.shown(state, ref)
        oldest = followed.generation if self.is_closed(state) else shown.oldest
        since = {file.key: followed.since[followed.items[file.key]] for file, _ in showing}
        return [
            (file, FileRead(followed.generation, since[file.key], read[inode], oldest, shown is followed))
            for file, inode in showing
        ]

    def close(self, state: VolumeState) -> None:
        """Nobody reads from now on, by one store into the grant. Idempotent."""
        self._withdrawal.close(state)

    def reopen(self, state: VolumeState, versions: Versions) -> None:
        """Readers are admitted again. While it was closed the secrets rotated on, so nothing has to be written."""
        self._catch_up(state)
        self._withdrawal.reopen(state)

    def is_closed(self, state: VolumeState) -> bool:
        """As the kernel has it."""
        return self._withdrawal.is_closed(state)

    def keep(self, state: VolumeState) -> VolumeState:
        """Prepare that the volume shows copies of its own; seen after `apply`."""
        return self._withdrawal.keep(state)

    def follow(self, state: VolumeState, versions: Versions) -> VolumeState:
        """Prepare that the volume shows what all share; seen after `apply`."""
        self._need_steps(state, (self._secrets[file.ref].size(file.key) for file in state.plan.files))
        return self._withdrawal.follow(state)

    def apply(self, state: VolumeState) -> None:
        """Let readers meet what `keep` or `follow` prepared. Idempotent."""
        self._withdrawal.apply(state)
        if state.kernel and not state.kernel.kept:
            self._catch_up(state)

    def _catch_up(self, state: VolumeState) -> None:
        """The volume has not been told of rotations."""
        self._need_steps(state, (self._secrets[file.ref].size(file.key) for file in state.plan.files))
        self.touch_stale(state)

    def is_whole(self, state: VolumeState, mounted: set[str]) -> bool:
        """Mounts, pins and grant of a published volume are all there."""
        kernel, root = state.kernel, self._root / state.name
        points = (str(root), str(root / layout.STORE), str(state.plan.target_path))
        return (
            kernel is not None
            and all(point in mounted for point in points)
            and self._maps.grants[kernel.grant_slot].id == kernel.grant_id
            and (self._links / state.name).exists()
        )

    def replace_program(self, state: VolumeState) -> None:
        """Let a live volume be served by this agent's program; descriptors already open keep the old one."""
        link = calls.get(str(self._links / state.name))
        try:
            calls.replace_program(link, self._programs.serve)
        finally:
            os.close(link)

    def leftovers(self, owned: set[str]) -> set[str]:
        """Names of volumes that have pins or folders, but no owner."""
        found = {path.name for folder in (self._links, self._steps, self._root) for path in folder.iterdir()}
        return found - owned

    def adopt(self, state: VolumeState) -> None:
        """Bring the grant in line with what was saved."""
        self._withdrawal.adopt(state)

    def clear(self, name: str) -> None:
        """Remove what is left of a volume that nobody owns."""
        self._end_steps(name)
        self._remove_mounts(name)
        self._remove_pins(name)

    # Steps of `begin`

    def _acquire(self, plan: VolumePlan, versions: Versions, undo: ExitStack) -> list[SetState]:
        sets = []
        for ref, version in versions.items():
            keys = {file.key for file in plan.files if file.ref == ref}
            shared = self._secrets.acquire(plan.volume_id, version, keys)
            undo.callback(self._secrets.release, plan.volume_id, ref)
            items = {key: shared.items[key] for key in keys}
            sets.append(SetState(ref, shared.set_id, shared.slot, items))
        return sets

    def _make_mounts(self, name: str) -> Path:
        root = self._root / name
        root.mkdir()
        mounts.mount_new("tmpfs", root, f"mode={layout.DIRECTORY_MODE:o},size=256k,nr_inodes=256")
        store = root / layout.STORE
        store.mkdir()
        mounts.mount_folder_of_new("bpf", store, "files")
        store.chmod(layout.DIRECTORY_MODE)
        return store

    def _make_files(
        self, plan: VolumePlan, name: str, store: Path, grant_id: int, slot: int, undo: ExitStack
    ) -> list[int]:
        count = max(steps_of(self._secrets[file.ref].size(file.key)) for file in plan.files)
        steps = self._maps.new_steps(grant_id, slot, count)
        self._steps_made[name] = count
        undo_fds = [steps]
        try:
            calls.pin(steps, str(self._steps / name))
            link = calls.iterator_link(self._programs.serve, steps)
            undo_fds.append(link)
            calls.pin(link, str(self._links / name))
            return [self._make_file(plan, number, store, link, grant_id, undo) for number in range(len(plan.files))]
        finally:
            for fd in undo_fds:
                os.close(fd)

    def _make_file(self, plan: VolumePlan, number: int, store: Path, link: int, grant_id: int, undo: ExitStack) -> int:
        file, path = plan.files[number], store / str(number)
        shared = self._secrets[file.ref]
        calls.pin(link, str(path))
        os.chown(path, plan.owner_uid, -1 if plan.fs_group is None else plan.fs_group)
        os.chmod(path, file.mode)
        inode = os.stat(path).st_ino
        self._maps.put_file(grant_id, inode, shared.set_id, shared.slot, shared.items[file.key])
        undo.callback(self._maps.drop_file, grant_id, inode)
        os.truncate(path, shared.size(file.key))
        layout.link_file(store.parent, file.name, f"{layout.STORE}/{number}")
        return inode

    def _fill_grant(self, grant: Grant, plan: VolumePlan, identity: Identity, device: int) -> None:
        grant.pod_id = identity.pod_id
        grant.cgroup_id = identity.cgroup_id
        grant.mount_ns, grant.pid_ns = identity.mount_ns, identity.pid_ns
        grant.device = os.major(device) << 20 | os.minor(device)
        grant.from_ = FROM_CODE[plan.access.from_]
        grant.action = ACTION_CODE[plan.access.action]
        grant.open_limit = plan.open_files

    # Steps of `end`

    def _end_steps(self, name: str) -> None:
        path = self._steps / name
        if not path.exists():
            return
        steps = calls.get(str(path))
        try:
            self._maps.end_steps(steps)
        finally:
            os.close(steps)

    def _remove_mounts(self, name: str) -> None:
        root = self._root / name
        if not root.exists():
            return
        for point in (root / layout.STORE, root):
            with suppress(mounts.MountError):
                mounts.unmount(point)
        with suppress(FileNotFoundError):
            root.rmdir()

    def _remove_pins(self, name: str) -> None:
        self._steps_made.pop(name, None)
        for folder in (self._links, self._steps):
            (folder / name).unlink(missing_ok=True)
