"""The node's kernel side as a whole: the agent's private folder and bpffs, the programs, the maps, the engine on top.

Service, probe, bench and kernel tests all open it here, so they all run what production runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.delivery import mounts
from agent.delivery.adoption import KernelSide
from agent.delivery.binaries import Binaries
from agent.delivery.graveyard import Graveyard
from agent.delivery.iter_engine import IterEngine
from agent.delivery.pods import Pods
from agent.delivery.shared import SharedSecrets
from agent.kernel.calls import KernelError
from agent.kernel.node import NodeFacts
from agent.kernel.programs import DEFAULT_TUNING, OBJECT, Programs, Tuning, open_programs, unpin_tree
from agent.kernel.safe import KernelSafe, wipe_all
from agent.kernel.store import Maps
from agent.safe import MemorySafe

BPFFS = "bpf"
SAFE = "safe"
VOLUMES = "volumes"
LOCK = "agent.lock"
"""Held by the agent of the node: two would each free what the other serves."""


@dataclass(frozen=True, slots=True)
class NodeKernel:
    """Everything of the engine `iter`, open."""

    facts: NodeFacts
    programs: Programs
    maps: Maps
    grave: Graveyard
    secrets: SharedSecrets
    pods: Pods
    binaries: Binaries
    engine: IterEngine
    safe: KernelSafe | MemorySafe

    def side(self) -> KernelSide:
        """What adoption works on."""
        return KernelSide(self.engine, self.programs, self.maps, self.secrets, self.pods, self.binaries, self.grave)

    def close(self) -> None:
        """Close the descriptors. What is pinned and mounted stays and goes on serving."""
        self.maps.close()
        self.programs.close()


def prepare_folder(run_dir: Path) -> Path:
    """The agent's folder (0700), a mount that no other mount namespace sees into; returns the volumes' folder in it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    run_dir.chmod(0o700)
    if str(run_dir) not in {mount.point for mount in mounts.read_mounts()}:
        mounts.make_private(run_dir)
    volumes = run_dir / VOLUMES
    volumes.mkdir(exist_ok=True)
    return volumes


def has_pins(run_dir: Path) -> bool:
    """Whether an earlier agent left its programs and maps here."""
    return (run_dir / BPFFS / "maps" / "about").exists()


def open_kernel(
    run_dir: Path,
    facts: NodeFacts,
    failed: Callable[[BaseException], None],
    tuning: Tuning = DEFAULT_TUNING,
    object_path: Path = OBJECT,
    worked: Callable[[], None] = lambda: None,
) -> NodeKernel:
    """Load or adopt the programs below `run_dir`. Raises KernelError or MountError where BPF does not work. `failed`
    and `worked` hear of what is freed, see Graveyard.
    """
    volumes = prepare_folder(run_dir)
    bpffs = _own_bpffs(run_dir)
    programs = open_programs(bpffs, facts, tuning, object_path)
    maps = Maps(programs)
    grave = Graveyard(maps.fence, failed, worked)
    secrets = SharedSecrets(maps, grave)
    pods = Pods(maps, facts.cgroup.root if facts.cgroup else None)
    engine = IterEngine(volumes, bpffs, programs, maps, secrets, pods, grave)
    return NodeKernel(facts, programs, maps, grave, secrets, pods, Binaries(maps, pods), engine, open_safe(run_dir))


def open_safe(run_dir: Path) -> KernelSafe | MemorySafe:
    """Where tokens and leases are kept: in maps of the agent's own wherever the node has BPF, whichever engine serves;
    else in the agent's memory (`outlives_agent` tells which). Raises Refused where maps of another format are found.

    An agent has one: `NodeKernel.safe` where there is a kernel side, else what this returns.
    """
    try:
        prepare_folder(run_dir)
        return KernelSafe(_own_bpffs(run_dir) / SAFE)
    except (KernelError, mounts.MountError, OSError):
        return MemorySafe()


def _own_bpffs(run_dir: Path) -> Path:
    """The agent's bpffs, mounted where it is not yet."""
    bpffs = run_dir / BPFFS
    bpffs.mkdir(exist_ok=True)
    if str(bpffs) not in {mount.point for mount in mounts.read_mounts()}:
        mounts.mount_new("bpf", bpffs, "mode=700")
    return bpffs


def remove(run_dir: Path, targets: list[Path]) -> None:
    """Take everything of ours off the node: targets, volumes, pins, the folder's own mount."""
    for target in targets:
        with suppress(mounts.MountError):
            mounts.unmount(target)
    bpffs = run_dir / BPFFS
    if (bpffs / SAFE).is_dir():
        wipe_all(bpffs / SAFE)
    if bpffs.is_dir():
        for folder in list(bpffs.iterdir()):
            if folder.is_dir():
                unpin_tree(folder)
    for point in mounts.mounts_below(run_dir, mounts.read_mounts()):
        with suppress(mounts.MountError):
            mounts.unmount(point)
    for folder in (run_dir / VOLUMES, bpffs):
        if folder.is_dir():
            for left in folder.iterdir():
                with suppress(OSError):
                    os.rmdir(left)
