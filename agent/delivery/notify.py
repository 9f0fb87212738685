"""Telling applications of a rotation by signal, where their interceptor asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from agent.delivery import cgroups, processes
from agent.delivery.pods import Pods
from agent.delivery.state import VolumeState

MAIN = "main"


class Notifier:
    """Finds whom to signal. `root` is the cgroup hierarchy's."""

    def __init__(self, pods: Pods | None, root: Path | None) -> None:
        self._pods = pods
        self._root = root

    def rotated(self, volumes: Iterable[VolumeState]) -> dict[str, int]:
        """Signal the applications that asked for it; how many processes were told, by volume id."""
        asked = [(state, notify) for state in volumes if (notify := state.plan.notify) is not None]
        main_tasks = self._pods.main_tasks() if asked and self._pods else {}
        told = {}
        for state, notify in asked:
            members = self._members(state.plan.pod.uid)
            if notify.process != MAIN:
                chosen = [pid for pid in members if self._executes(pid, notify.process)]
            elif state.kernel is not None:
                chosen = [pid for pid, _ in main_tasks.get(state.kernel.pod_id, []) if pid in members]
            else:
                chosen = _first_of_containers(members, state)
            told[state.plan.volume_id] = sum(processes.send(pid, notify.signal) for pid in chosen)
        return told

    def _members(self, uid: str) -> set[int]:
        directory = cgroups.find_pod(self._root, uid) if self._root else None
        return set(cgroups.tasks_below(directory)) if directory else set()

    def _executes(self, pid: int, path: str) -> bool:
        running = processes.running_executable(pid)
        return running is not None and running == processes.find_executable(pid, path)


def _first_of_containers(members: Iterable[int], state: VolumeState) -> list[int]:
    """Nobody follows the pod in the kernel: the first process of each container that has the volume. So the pod's
    sandbox, which would end by a signal, is not among them."""
    try:
        shown = os.stat(state.plan.target_path).st_dev
    except OSError:
        return []
    device = os.major(shown) << 20 | os.minor(shown)
    return [pid for pid in members if processes.is_first(pid) and processes.has_mounted(pid, device)]
