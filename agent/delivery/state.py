"""What a restarted agent must know of each volume: one small file, without a secret and without a digest of one.

A file is replaced as a whole, so it is there or not, never half. Its `phase` says how far a volume had come; anything
that is not `published` is undone at the next start, and kubelet asks again.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from agent.model import EngineName, SecretRef, VolumePlan
from kernelsecret.errors import Code, Refused

FORMAT = 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class StateUnwritable(Refused):
    """The folder of state files cannot be written: a volume that a restart would forget is not made."""


class Phase(Enum):
    """How far a volume has come."""

    PUBLISHING = "publishing"
    PUBLISHED = "published"
    UNPUBLISHING = "unpublishing"


class SetState(msgspec.Struct, frozen=True):
    """A set that a volume shows: which secret it is, and which key is which item."""

    ref: SecretRef
    set_id: int
    slot: int
    items: dict[str, int]


class KernelState(msgspec.Struct, frozen=True):
    """The kernel's side of an `iter` volume. `inodes` are those of its files, in the plan's order."""

    grant_id: int
    grant_slot: int
    pod_id: int
    cgroup_id: int
    device: int
    inodes: list[int]
    sets: list[SetState]
    files_id: int = 0
    """Under which its files are in the map `files`."""
    kept: list[SetState] = []
    """Copies of `sets` that no rotation reaches: what its files show instead, once its right has ended."""


class VolumeState(msgspec.Struct, frozen=True):
    """One volume. `name` is its folder below the agent's. `ended` says why its pod has no right to it any more; empty
    while it has."""

    plan: VolumePlan
    engine: EngineName
    phase: Phase
    kernel: KernelState | None = None
    ended: str = ""
    format: int = FORMAT

    @property
    def name(self) -> str:
        """Folder and file name of the volume: no caller's text goes into a path."""
        return volume_name(self.plan.volume_id)


def volume_name(volume_id: str) -> str:
    """A name without dots or slashes for a volume id."""
    return hashlib.sha256(volume_id.encode()).hexdigest()[:32]


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def _decode(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(kind.__name__)


class Kept(Protocol):
    """What can be kept in a file: `name` is the file's, without an ending."""

    @property
    def name(self) -> str:
        """No caller's text."""


T = TypeVar("T", bound=Kept)
_encoder = msgspec.json.Encoder(enc_hook=_encode)


class Files(Generic[T]):
    """The state files of one kind, which their ending tells, in one folder (0700, files 0600)."""

    def __init__(self, directory: Path, kind: type[T], ending: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._directory, self._ending = directory, ending
        self._decoder = msgspec.json.Decoder(kind, dec_hook=_decode)

    def save(self, state: T) -> None:
        """Replace the volume's file as a whole. Raises StateUnwritable, and then the file is what it was."""
        path = self._path(state.name)
        unfinished = path.with_suffix(".new")
        try:
            fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(_encoder.encode(state))
            unfinished.replace(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise StateUnwritable(
                Code.RESOURCE_EXHAUSTED if error.errno in FULL else Code.FAILED_PRECONDITION,
                "KERNELSECRET_STATE_DIR",
                f"cannot be written ({errno.errorcode.get(error.errno or 0, 'unknown')})",
                "make room, or mount it writable",
            ) from error

    def remove(self, name: str) -> None:
        """Forget a volume; idempotent."""
        self._path(name).unlink(missing_ok=True)

    def load(self) -> list[T]:
        """Every volume that has a file."""
        states = []
        for path in sorted(self._directory.glob(f"*{self._ending}")):
            try:
                states.append(self._decoder.decode(path.read_bytes()))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Refused(
                    Code.FAILED_PRECONDITION,
                    f"state file {path.name}",
                    f"cannot be read ({type(error).__name__})",
                    "remove the node's volumes with `kernelsecret-ctl agent --clean`, kubelet publishes them again",
                ) from error
        for path in self._directory.glob("*.new"):
            path.unlink(missing_ok=True)
        return states

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{self._ending}"


class StateFiles(Files[VolumeState]):
    """The state files of the volumes that show secrets."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, VolumeState, ".json")
