"""Telling applications of a rotation by signal, where their interceptor asks for it."""

from __future__ import annotations

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

    def rotated(self, state: VolumeState) -> int:
        """Signal the volume's application; how many processes were told."""
        notify = state.plan.notify
        if notify is None:
            return 0
        members = self._members(state.plan.pod.uid)
        if notify.process == MAIN:
            chosen = [pid for pid in self._main_tasks(state) if pid in members]
        else:
            chosen = [pid for pid in members if self._executes(pid, notify.process)]
        return sum(processes.send(pid, notify.signal) for pid in chosen)

    def _members(self, uid: str) -> set[int]:
        directory = cgroups.find_pod(self._root, uid) if self._root else None
        return set(cgroups.tasks_below(directory)) if directory else set()

    def _main_tasks(self, state: VolumeState) -> list[int]:
        if self._pods is None or state.kernel is None:
            return []
        return [pid for pid, _, _ in self._pods.main_tasks(state.kernel.pod_id)]

    def _executes(self, pid: int, path: str) -> bool:
        running = processes.running_executable(pid)
        return running is not None and running == processes.find_executable(pid, path)
