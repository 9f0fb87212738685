"""Facts of the node that the programs are loaded for. The parsers are pure; `read_facts` reads the files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CgroupHierarchy:
    """Where pods' cgroups are: version 2 or 1, its number in /proc/self/cgroup, and the directory that is its root."""

    version: int
    number: int
    root: Path


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the programs and the probe's report need to know. `mount_ns` is that of kubelet and the runtime."""

    kernel: str
    lockdown: str
    has_btf: bool
    cgroup: CgroupHierarchy | None
    mount_ns: int


CGROUP_ROOT = Path("/sys/fs/cgroup")


def parse_hierarchy(self_cgroup: str, mountinfo: str, below: Path = CGROUP_ROOT) -> CgroupHierarchy | None:
    """The hierarchy that pods live in, from /proc/self/cgroup and the mounts at or below `below` in mountinfo.

    v1's memory controller where it is mounted (kubelet puts every pod into each v1 controller); else the unified one.
    """
    mounts = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, super_block = left.split(), right.split()
        if len(fields) > 4 and len(super_block) > 2 and Path(fields[4]).is_relative_to(below):
            mounts.append((super_block[0], fields[4], super_block[2].split(",")))
    for line in self_cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers = rest.partition(":")[0].split(",")
        if "memory" in controllers:
            for kind, point, options in mounts:
                if kind == "cgroup" and "memory" in options:
                    return CgroupHierarchy(1, int(number), Path(point))
    for kind, point, _ in mounts:
        if kind == "cgroup2":
            return CgroupHierarchy(2, 0, Path(point))
    return None


def parse_lockdown(text: str) -> str:
    """The chosen word of `none [integrity] confidentiality`."""
    for word in text.split():
        if word.startswith("["):
            return word.strip("[]")
    return UNKNOWN


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def read_facts(cgroup_root: Path = CGROUP_ROOT) -> NodeFacts:
    """The facts of this node, whose cgroup file systems are seen at `cgroup_root`."""
    return NodeFacts(
        kernel=os.uname().release,
        lockdown=parse_lockdown(_read("/sys/kernel/security/lockdown")),
        has_btf=Path("/sys/kernel/btf/vmlinux").exists(),
        cgroup=parse_hierarchy(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"), cgroup_root),
        mount_ns=os.stat("/proc/self/ns/mnt").st_ino,
    )
