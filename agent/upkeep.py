"""What is done to a node while no agent runs on it: probe it, and take everything of ours off it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.delivery import mounts
from agent.delivery.state import StateFiles
from agent.idmapped import with_idmapped
from agent.kernel.node import read_facts
from agent.node_kernel import LOCK, open_kernel, remove
from agent.probe import ProbeReport, probe, report
from agent.settings import Settings
from agent.sockets import lock
from kernelsecret.errors import KernelSecretError, said


def probe_once(settings: Settings) -> ProbeReport:
    """Probe this node in a folder that is gone afterwards; a running agent is not touched."""
    facts = read_facts(settings.cgroup_root)
    folder = Path(tempfile.mkdtemp(prefix="kernelsecret-probe-"))
    kernel, reason = None, ""
    try:
        try:
            kernel = open_kernel(folder, facts, lambda error: None)
            asyncio.run(probe(kernel, folder))
        except (KernelSecretError, OSError) as error:
            reason = said(error)
        return with_idmapped(report(facts, reason), folder)
    finally:
        if kernel is not None:
            kernel.close()
        with suppress(OSError, KernelSecretError):
            remove(folder, [])
        shutil.rmtree(folder, ignore_errors=True)


def clean(settings: Settings) -> int:
    """Take everything of ours off the node: how many volumes that were. Refused while an agent runs."""
    if not settings.run_dir.is_dir():
        return 0
    held = lock(settings.run_dir / LOCK)
    targets = _targets(settings.state_dir) | _shown_below(settings.kubelet_dir)
    remove(settings.run_dir, sorted(targets))
    os.close(held)
    for target in targets:
        with suppress(OSError):
            target.rmdir()
    shutil.rmtree(settings.state_dir, ignore_errors=True)
    return len(targets)


def _targets(state_dir: Path) -> set[Path]:
    try:
        return {state.plan.target_path for state in StateFiles(state_dir).load()}
    except KernelSecretError:
        return set()  # the mounts tell


def _shown_below(kubelet_dir: Path) -> set[Path]:
    ours = {Path(mount.point) for mount in mounts.read_mounts() if mount.source == mounts.SOURCE}
    pods = kubelet_dir.resolve() / "pods"
    return {point for point in ours if point.is_relative_to(pods) and point.parent not in ours}
