"""Where a pod's cgroup is, and which tasks are in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

QOS = ("", "burstable", "besteffort")


def candidates(uid: str) -> Iterator[str]:
    """Every path below the hierarchy's root that kubelet may give a pod: cgroupfs driver first, then systemd's."""
    for qos in QOS:
        yield "/".join(part for part in ("kubepods", qos, f"pod{uid}") if part)
    slice_uid = uid.replace("-", "_")
    for qos in QOS:
        name = f"kubepods-{qos}" if qos else "kubepods"
        parent = f"kubepods.slice/{name}.slice" if qos else "kubepods.slice"
        yield f"{parent}/{name}-pod{slice_uid}.slice"


def find_pod(root: Path, uid: str) -> Path | None:
    """The pod's cgroup below the hierarchy's root, or None where it has none (kubelet without cgroups per pod)."""
    for path in candidates(uid):
        directory = root / path
        if directory.is_dir():
            return directory
    return None


def cgroup_id(directory: Path) -> int:
    """The kernel's id of a cgroup: the inode number of its directory."""
    return os.stat(directory).st_ino


def is_in_pod(pid: int, directory: Path) -> bool:
    """Whether a process is in that pod's cgroup now. Raises OSError where there is no such process."""
    text = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape")
    return any(directory.name in line.split("/") for line in text.splitlines())


def tasks_below(directory: Path) -> Iterator[int]:
    """Pids of every process in a cgroup and the cgroups below it; what vanishes meanwhile is passed over."""
    for folder, _, files in os.walk(directory):
        if "cgroup.procs" not in files:
            continue
        try:
            text = (Path(folder) / "cgroup.procs").read_text()
        except OSError:
            continue
        yield from (int(pid) for pid in text.split())
