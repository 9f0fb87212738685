"""What is left on the node, seen by the tests' own eyes: kernel objects, mounts, and what the agent's folder holds."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agent.delivery import mounts
from agent.kernel import calls
from agent.kernel.layout import BinaryKey, ChunkKey, Container, FileKey, Pod, VersionKey
from tests.needs import BPF_SYSCALL

NEXT_ID = {"program": 11, "map": 12, "link": 31}
KEYS = {
    "files": FileKey,
    "versions": VersionKey,
    "chunks": ChunkKey,
    "binaries": BinaryKey,
    "pods": calls.Key64,
}
Footprint = dict[str, object]
T = TypeVar("T", bound=ctypes.Structure)


def kernel_objects() -> set[tuple[str, int]]:
    """(kind, id) of every program, map and link of the machine."""
    return {(kind, number) for kind in NEXT_ID for number in _ids(NEXT_ID[kind])}


def _ids(command: int) -> Iterator[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while True:
        attributes = ctypes.create_string_buffer(struct.pack("=3I", number, 0, 0).ljust(128, b"\0"))
        if libc.syscall(BPF_SYSCALL[platform.machine()], command, attributes, len(attributes.raw)) < 0:
            return
        number = struct.unpack_from("=I", attributes.raw, 4)[0]
        yield number


def mounts_at(base: Path) -> list[str]:
    """Mount points at or below a folder."""
    return sorted(mounts.mounts_below(base, mounts.read_mounts()))


def strangers(base: Path) -> bool:
    """Whether another agent has mounts on this machine: its kernel objects come and go while a test runs."""
    return any(
        mount.source == mounts.SOURCE and not mount.point.startswith(f"{base}/") for mount in mounts.read_mounts()
    )


def footprint(run: Path) -> Footprint:
    """Everything that volumes leave in the agent's folder, its bpffs and its maps, comparable."""
    bpffs = run / "bpf"
    found: Footprint = {f"map {name}": _entries(bpffs / "maps" / name, kind) for name, kind in KEYS.items()}
    found["safe"] = len(list((bpffs / "safe").iterdir())) if (bpffs / "safe").is_dir() else 0
    found["containers of no pod"] = _unowned_containers(bpffs / "maps")
    for folder in (run / "state", run / "volumes", bpffs / "links", bpffs / "steps", bpffs):
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        # Which build it is depends on settings; that there is one, and nothing unfinished, does not.
        found[str(folder.relative_to(run))] = ["programs" if name.startswith("programs_") else name for name in names]
    found["mounts"] = mounts_at(run.parent)
    return found


def _unowned_containers(maps: Path) -> int:
    """Containers come as programs start; of a pod that is not followed none may be left."""
    if not maps.is_dir():
        return 0
    pods = {pod.id for pod in _values(maps / "pods", Pod)}
    return sum(1 for container in _values(maps / "containers", Container) if container.pod_id not in pods)


def _values(pin: Path, kind: type[T]) -> list[T]:
    fd = calls.get(str(pin))
    try:
        found = [calls.lookup(fd, key, kind) for key in calls.keys(fd, calls.Key64)]
    finally:
        os.close(fd)
    return [value for value in found if value is not None]


def _entries(pin: Path, kind: type[ctypes.Structure]) -> int:
    if not pin.exists():
        return 0
    fd = calls.get(str(pin))
    try:
        return sum(1 for _ in calls.keys(fd, kind))
    finally:
        with suppress(OSError):
            os.close(fd)
