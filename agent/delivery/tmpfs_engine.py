"""The engine `tmpfs`: real files in memory, replaced the way kubelet's own writer does, for nodes without BPF.

It cannot hold the access rule: whoever the file's mode admits reads. A version is a folder; `..data` points to it and
moves in one step, so that readers who resolve `..data` once see files of one version. What they have open stays theirs.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from agent.delivery import layout, mounts
from agent.delivery.engine import BehindError, Versions
from agent.delivery.lingering import MOST_LINGERING, Later, Lingering
from agent.delivery.retiring import open_at_once, overwrite, retire
from agent.delivery.state import Phase, VolumeState, volume_name
from agent.model import EngineName, FilePlan, FileRead, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Code, Refused, said
from kernelsecret.interceptor import Mode

SLACK_BYTES = 256 * 1024
LONGEST_VALUE = 1024 * 1024


class TmpfsEngine:
    """Serves volumes from a tmpfs each. `root` holds their mounts; with `later` a version outlives its end a little."""

    name = EngineName.TMPFS
    enforces_access = False
    needs_values = True

    def __init__(self, root: Path, later: Later | None = None) -> None:
        self._root = root
        self._lingering = Lingering(later)

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        """Make the volume and show it; what fails is undone at once."""
        if plan.uses_sub_path and plan.mode is not Mode.PRELOAD:  # the shim leads from there to the volume
            raise Refused(
                Code.FAILED_PRECONDITION,
                "volumeMounts.subPath",
                "on this node files are replaced at a rotation, and a subPath mount would keep the old one for ever",
                "mount the whole volume, or run the pod on a node with the engine `iter`",
            )
        name = volume_name(plan.volume_id)
        root = self._root / name
        with ExitStack() as undo:
            root.mkdir()
            undo.callback(self._remove_mounts, name)
            self._mount(root, len(plan.files))
            self._write_version(root, plan, self._values(plan, versions))
            for file in plan.files:
                layout.link_file(root, file.name, f"{layout.DATA}/{file.name}")
            mounts.show(root, plan.target_path)
            undo.pop_all()
        return VolumeState(plan, self.name, Phase.PUBLISHED)

    def show(self, state: VolumeState) -> None:
        """Mount the volume at its target where it is not mounted there. Idempotent."""
        mounts.show(self._root / state.name, state.plan.target_path)

    async def end(self, state: VolumeState) -> None:
        """Wipe and unmount. Idempotent."""
        root = self._root / state.name
        with suppress(mounts.MountError):
            mounts.unmount(state.plan.target_path)
        if root.exists():
            self._wipe_all(root)
            self._remove_mounts(state.name)

    def adopt(self, state: VolumeState) -> None:
        """End what an earlier agent let stay: who reads it reads on."""
        for version in self._earlier(self._root / state.name):
            retire(version, is_shown_elsewhere=state.plan.uses_sub_path)

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        """Write a new version of every volume that shows the secret."""
        changed: set[str] = set()
        behind: dict[str, Refused] = {}
        for state in volumes:
            root = self._root / state.name
            try:
                values, keys = self._following(root, state.plan, version)
                if keys:
                    self._write_version(root, state.plan, values)
                    changed |= keys
            except Refused as refused:
                behind[state.plan.volume_id] = refused
            except OSError as error:
                behind[state.plan.volume_id] = _not_written(version.ref, error)
        if behind:
            raise BehindError(next(iter(behind.values())), behind, changed)
        return changed

    def sizes(self, state: VolumeState) -> list[int]:
        """Bytes of the current value of each file, in the plan's order."""
        data = self._root / state.name / layout.DATA
        return [os.stat(data / file.name).st_size for file in state.plan.files]

    def close(self, state: VolumeState) -> None:
        """Every entry becomes a device that nothing drives and the mount forbids: opening it fails with EACCES, for
        root too. The values are overwritten, so a descriptor that is open reads zeros. Idempotent."""
        if self.is_closed(state):
            return
        root = self._root / state.name
        try:
            self._replace(root, state.plan, lambda path, file: self._forbid(path, file.mode))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._grow(root, len(state.plan.files))  # nobody keeps it open by filling it
            self._replace(root, state.plan, lambda path, file: self._forbid(path, file.mode))
        self._lingering.forget(root)
        for version in self._earlier(root):
            overwrite(version)
            shutil.rmtree(version, ignore_errors=True)

    def reopen(self, state: VolumeState, versions: Versions) -> None:
        """Write these versions. Idempotent."""
        if self.is_closed(state):
            self._write_version(self._root / state.name, state.plan, self._values(state.plan, versions))

    def is_closed(self, state: VolumeState) -> bool:
        """As the folder has it."""
        data = self._root / state.name / layout.DATA
        return stat.S_ISCHR(os.stat(data / state.plan.files[0].name).st_mode)

    def keep(self, state: VolumeState) -> VolumeState:
        """The files are the volume's own: not to rotate it is all."""
        return state

    def follow(self, state: VolumeState, versions: Versions) -> VolumeState:
        """Write these versions at once."""
        self._write_version(self._root / state.name, state.plan, self._values(state.plan, versions))
        return state

    def apply(self, state: VolumeState) -> None:
        """Nothing was left to do."""

    def generation(self, ref: SecretRef) -> int:
        """Versions are not counted here."""
        return 0

    def reads(self, state: VolumeState, ref: SecretRef) -> list[tuple[FilePlan, FileRead]]:
        """Nothing is known: nobody tells of a read of an ordinary file."""
        return [(file, FileRead()) for file in state.plan.files if file.ref == ref]

    def is_whole(self, state: VolumeState, mounted: set[str]) -> bool:
        """Both mounts are there."""
        return str(self._root / state.name) in mounted and str(state.plan.target_path) in mounted

    def leftovers(self, owned: set[str]) -> set[str]:
        """Names of volumes that have folders, but no owner."""
        return {path.name for path in self._root.iterdir()} - owned

    def clear(self, name: str) -> None:
        """Remove what is left of a volume that nobody owns."""
        root = self._root / name
        if root.exists():
            self._wipe_all(root)
            self._remove_mounts(name)

    def _following(self, root: Path, plan: VolumePlan, version: SecretVersion) -> tuple[dict[str, bytes], set[str]]:
        values, changed = {}, set()
        for file in plan.files:
            value = _read(root / layout.DATA / file.name, file.ref)
            if file.ref == version.ref:
                new = self._value(version, file.ref, file.key)
                if new != value:
                    changed.add(file.key)
                    value = new
            values[file.name] = value
        return values, changed

    def _values(self, plan: VolumePlan, versions: Versions) -> dict[str, bytes]:
        return {file.name: self._value(versions[file.ref], file.ref, file.key) for file in plan.files}

    def _value(self, version: SecretVersion, ref: SecretRef, key: str) -> bytes:
        if key not in version.values:
            raise Refused(
                Code.FAILED_PRECONDITION,
                str(ref),
                f"the new version has no key {key!r}",
                "put the key back, or take it out of the interceptor; the last good version goes on being served",
            )
        return version.values[key]

    def _mount(self, root: Path, files: int) -> None:
        size = files * LONGEST_VALUE * 2 + SLACK_BYTES
        options = f"mode={layout.DIRECTORY_MODE:o},size={size},nr_inodes={files * (MOST_LINGERING + 4) + 64}"
        try:
            mounts.mount_new("tmpfs", root, options + ",noswap")
        except mounts.MountError as error:
            if error.errno != errno.EINVAL:  # before 6.3 a tmpfs cannot be kept out of swap
                raise
            mounts.mount_new("tmpfs", root, options)

    def _grow(self, root: Path, files: int) -> None:
        """Room for the names of one more version, however many its readers hold open."""
        options = f"nr_inodes={os.statvfs(root).f_files + files + 4}"
        try:
            mounts.reconfigure(root, options)
        except mounts.MountError as error:
            if error.errno != errno.EINVAL:  # where it has to be said again that it is kept out of swap
                raise
            mounts.reconfigure(root, options + ",noswap")

    def _write_version(self, root: Path, plan: VolumePlan, values: dict[str, bytes]) -> None:
        def write(path: Path, file: FilePlan) -> None:
            self._write_file(path, values[file.name], plan, file.mode)

        try:
            previous = self._replace(root, plan, write)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._lingering.end(root)  # what stays is welcome to room that nobody needs
            previous = self._replace(root, plan, write)
        if previous:
            self._tell(previous)
            self._lingering.add(previous, is_shown_elsewhere=plan.uses_sub_path)

    def _tell(self, version: Path) -> None:
        """Whoever watches a file, rather than its folder, hears now that it is an old one (IN_ATTRIB)."""
        for path in version.iterdir():
            with suppress(OSError):
                os.utime(path, follow_symlinks=False)

    def _replace(self, root: Path, plan: VolumePlan, make: Callable[[Path, FilePlan], None]) -> Path | None:
        """Show what `make` makes of each file; the folder that was shown until now, for the caller to remove."""
        previous = os.readlink(root / layout.DATA) if (root / layout.DATA).is_symlink() else None
        number = int(previous.removeprefix("..")) + 1 if previous else 1
        directory = root / f"..{number}"
        if directory.exists():  # left by an agent that was killed half-way
            shutil.rmtree(directory)
        directory.mkdir(mode=layout.DIRECTORY_MODE)
        directory.chmod(layout.DIRECTORY_MODE)
        try:
            for file in plan.files:
                make(directory / file.name, file)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        layout.point_data(root, directory.name)
        return root / previous if previous else None

    def _forbid(self, path: Path, mode: int) -> None:
        """The one device that takes no capability to make: number 0:0, which has no driver anywhere."""
        os.mknod(path, stat.S_IFCHR | mode, 0)

    def _write_file(self, path: Path, value: bytes, plan: VolumePlan, mode: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(value)
            os.fchown(fd, plan.owner_uid, -1 if plan.fs_group is None else plan.fs_group)
            os.fchmod(fd, mode)

    def _earlier(self, root: Path) -> list[Path]:
        """The folders of versions that are not shown."""
        shown = os.readlink(root / layout.DATA)
        return [version for version in root.glob("..[0-9]*") if version.name != shown]

    def _wipe_all(self, root: Path) -> None:
        self._lingering.forget(root)
        for version in root.glob("..[0-9]*"):
            overwrite(version)

    def _remove_mounts(self, name: str) -> None:
        root = self._root / name
        with suppress(mounts.MountError):
            mounts.unmount(root)
        with suppress(FileNotFoundError):
            root.rmdir()


def _read(path: Path, ref: SecretRef) -> bytes:
    try:
        with open(open_at_once(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except BlockingIOError:
        why = "a program of the pod has a lease on one of its files (fcntl F_SETLEASE), so the volume cannot be rotated"
        fix = "let it give the lease back; the last version goes on being served"
        raise Refused(Code.FAILED_PRECONDITION, str(ref), why, fix) from None


def _not_written(ref: SecretRef, error: OSError) -> Refused:
    if error.errno == errno.ENOSPC:
        why = "a volume's memory is full: programs of its pod hold earlier versions open"
        fix = "let them close what they read; the last version goes on being served"
        return Refused(Code.RESOURCE_EXHAUSTED, str(ref), why, fix)
    return Refused(Code.INTERNAL, str(ref), said(error), "look into the agent's log")
