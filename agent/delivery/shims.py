"""The volumes of the mode `preload` that hold the shim: one copy a node, shown read-only to every pod that asks.

It lies in a tmpfs of the agent's own, in a folder that is named by its content: a new agent with another shim gives
that to new pods, and those that run keep the one that their programs have mapped. There is no secret in it, so its
mount allows exec, which ld.so insists on; no other of ours does.

Every pod opens the same file. Root in one of them could have a lease on it, as its owner, and then each program that is
started under the shim, in any pod, would wait to open it. No lease is given on what somebody else has open, so it is
held open here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

import agent
from agent.delivery import mounts
from agent.delivery.retiring import open_at_once
from agent.delivery.state import Files, volume_name
from agent.model import PodRef, ShimRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.names import SHIM_FILE

LIBRARY = Path(agent.__path__[0]) / "preload" / "objects" / SHIM_FILE
"""The shim as it was built for this machine."""
FOLDER = "shim"
"""Its folder below the agent's."""
FOLDER_MODE, FILE_MODE = 0o755, 0o555
OPTIONS = f"mode={FOLDER_MODE:o},size=64m,nr_inodes=1024"
ELF = b"\x7fELF"


class ShimState(msgspec.Struct, frozen=True):
    """One volume of the shim: whose it is, where it is shown, and which content it shows."""

    volume_id: str
    target_path: Path
    pod: PodRef
    content: str

    @property
    def name(self) -> str:
        """File name of the volume: no caller's text goes into a path."""
        return volume_name(self.volume_id)


class Shims:
    """Every volume of the shim on this node. All calls are synchronous and idempotent."""

    def __init__(self, run_dir: Path, state_dir: Path, library: Path | None = None) -> None:
        """`run_dir` and `state_dir` are the agent's, `library` the file to be shown."""
        self._folder = run_dir / FOLDER
        self._states = Files(state_dir, ShimState, ".shim")
        self._library = library or LIBRARY
        self._shown: dict[str, ShimState] = {}
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._shown)

    def all(self) -> list[ShimState]:
        """Every published volume."""
        return list(self._shown.values())

    def get(self, volume_id: str) -> ShimState | None:
        """A published volume."""
        return self._shown.get(volume_id)

    def publish(self, request: ShimRequest) -> None:
        """Show the shim. Raises Refused, MountError, OSError or StateUnwritable, and then nothing is left."""
        known = self._shown.get(request.volume_id)
        self._check(request, known)
        if known is not None and self._is_served(known):
            self._hold()
            return
        content = self._content_at(request.target_path) or self._stored()
        state = ShimState(request.volume_id, request.target_path, request.pod, content)
        try:
            self._states.save(state)
            self._show(state)
        except BaseException:
            if known is None:
                self._states.remove(state.name)
            self._sweep()
            raise
        self._shown[state.volume_id] = state
        self._hold()

    def unpublish(self, volume_id: str) -> ShimState | None:
        """Take a volume away; None where there was none. Raises MountError, and may be called again then."""
        state = self._shown.get(volume_id)
        if state is None:
            return None
        if state.target_path.is_dir() and mounts.is_mounted(state.target_path):
            mounts.unmount(state.target_path)
        with suppress(OSError):
            state.target_path.rmdir()
        self._states.remove(state.name)
        del self._shown[volume_id]
        self._hold()
        if all(other.content != state.content for other in self._shown.values()):
            self._sweep()
        return state

    def adopt(self) -> int:
        """Take over what an earlier agent shows; how many volumes. What is not shown any more is forgotten: kubelet
        asks again."""
        points = {mount.point for mount in mounts.read_mounts()}
        for state in self._states.load():
            if str(state.target_path) in points:
                self._shown[state.volume_id] = state
            else:
                self._states.remove(state.name)
        self._hold()
        self._sweep()
        return len(self._shown)

    def _check(self, request: ShimRequest, known: ShimState | None) -> None:
        if known is not None:
            for field, ours, theirs in (
                ("target_path", known.target_path, request.target_path),
                ("volume_context.pod", known.pod, request.pod),
            ):
                if ours != theirs:
                    why = f"volume {request.volume_id} is published with {ours}, not {theirs}"
                    raise Refused(Code.ALREADY_EXISTS, field, why, "unpublish it first")
        for other in self._shown.values():
            if other is not known and other.target_path == request.target_path:
                why = f"volume {other.volume_id} is published there"
                raise Refused(Code.ALREADY_EXISTS, "target_path", why, "unpublish it first")

    def _hold(self) -> None:
        """Have each content open that is shown, and no other. One on which somebody has a lease, since an earlier agent
        went, loses it by this within 45 s, and is held when a volume is asked for again."""
        shown = {state.content: state for state in self._shown.values()}
        for content in self._held.keys() - shown.keys():
            os.close(self._held.pop(content))
        for content in shown.keys() - self._held.keys():
            for folder in (self._folder / content, shown[content].target_path):
                with suppress(OSError):
                    self._held[content] = open_at_once(folder / SHIM_FILE, os.O_RDONLY)
                    break

    def _is_served(self, state: ShimState) -> bool:
        """Whether it is shown at its target, where need be again. Of content that has gone what is mounted is kept."""
        if not (self._folder / state.content).is_dir():
            return mounts.is_mounted(state.target_path)
        self._show(state)
        return True

    def _show(self, state: ShimState) -> None:
        mounts.show(self._folder / state.content, state.target_path, executable=True)

    def _content_at(self, target: Path) -> str | None:
        """What is shown there already, by an agent whose state file was lost."""
        return (self._mounts() or {}).get(str(target)) if mounts.is_mounted(target) else None

    def _mounts(self) -> dict[str, str] | None:
        """Which content is shown at each mount point; None where there is no tmpfs of the shim."""
        found = mounts.read_mounts()
        device = next((mount.device for mount in found if mount.point == str(self._folder)), None)
        if device is None:
            return None
        return {one.point: one.root.strip("/") for one in found if one.device == device and one.root != "/"}

    def _stored(self) -> str:
        """The folder of the shim as it is now, made where it is not there yet."""
        library = self._read()
        content = hashlib.sha256(library).hexdigest()[:32]
        folder = self._folder / content
        self._folder.mkdir(exist_ok=True)
        if not mounts.is_mounted(self._folder):
            mounts.mount_new("tmpfs", self._folder, OPTIONS, mounts.NOSUID | mounts.NODEV)
        if not folder.exists():
            unfinished = self._folder / f"{content}.new"
            if unfinished.exists():  # left by an agent that was killed half-way
                shutil.rmtree(unfinished)
            unfinished.mkdir()
            unfinished.chmod(FOLDER_MODE)
            (unfinished / SHIM_FILE).write_bytes(library)
            (unfinished / SHIM_FILE).chmod(FILE_MODE)
            unfinished.rename(folder)
        return content

    def _read(self) -> bytes:
        fix = "install an agent that was built with it, or run the pod in another mode"
        try:
            library = self._library.read_bytes()
        except OSError as error:
            why = f"the agent on this node has no {SHIM_FILE} ({type(error).__name__})"
            raise Refused(Code.FAILED_PRECONDITION, "node", why, fix) from error
        if not library.startswith(ELF):
            raise Refused(Code.FAILED_PRECONDITION, "node", f"the agent's {SHIM_FILE} is no library", fix)
        return library

    def _sweep(self) -> None:
        """Remove contents that nobody is shown, and with the last one their tmpfs. The mounts are asked, not the state
        files: pods go on with what they are shown also where those were lost."""
        shown = self._mounts()
        if shown is None:
            return
        used = set(shown.values())
        for folder in self._folder.iterdir():
            if folder.name not in used:
                shutil.rmtree(folder, ignore_errors=True)
        if not used:
            mounts.unmount(self._folder)
            self._folder.rmdir()
