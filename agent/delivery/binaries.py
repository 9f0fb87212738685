"""`access.binaries`: from paths in the interceptor to the inodes that the kernel compares.

A path can be resolved only inside a container that runs. Under `from: binaries` the kernel therefore stops a container
at its first exec, and it goes on once its executables are known: no read is refused for having come too early.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.delivery import processes
from agent.delivery.pods import Pods
from agent.delivery.state import VolumeState
from agent.kernel.layout import PodFlag
from agent.kernel.store import Maps


class Binaries:
    """Resolves the named executables of each container as it starts."""

    def __init__(self, maps: Maps, pods: Pods) -> None:
        self._maps = maps
        self._pods = pods

    def started(self, pod_id: int, pid: int, volumes: Iterable[VolumeState], held: bool = True) -> int:
        """A container runs its first program: name its executables to its pod's volumes; how many were found."""
        found = 0
        try:
            for state in volumes:
                if state.kernel is None or state.kernel.pod_id != pod_id:
                    continue
                for path in state.plan.access.binaries:
                    executable = processes.find_executable(pid, path)
                    if executable is not None:
                        self._maps.put_binary(state.kernel.grant_id, executable.inode, executable.device)
                        found += 1
        finally:
            if held:
                processes.resume(pid)
        return found

    def adopt(self, volumes: Iterable[VolumeState]) -> None:
        """After a restart: containers that started meanwhile are waiting."""
        states = list(volumes)
        for pod_id, tasks in self._pods.main_tasks().items():
            for pid, flags in tasks:
                self.started(pod_id, pid, states, held=bool(flags & PodFlag.HOLD))
