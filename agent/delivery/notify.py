"""Telling applications of a rotation by signal, where their interceptor asks for it."""

from __future__ import annotations

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
            else:
                pod_id = state.kernel.pod_id if state.kernel else 0
                chosen = [pid for pid, _ in main_tasks.get(pod_id, []) if pid in members]
            told[state.plan.volume_id] = sum(processes.send(pid, notify.signal) for pid in chosen)
        return told

    def _members(self, uid: str) -> set[int]:
        directory = cgroups.find_pod(self._root, uid) if self._root else None
        return set(cgroups.tasks_below(directory)) if directory else set()

    def _executes(self, pid: int, path: str) -> bool:
        running = processes.running_executable(pid)
        return running is not None and running == processes.find_executable(pid, path)
