"""The pods whose lineage the kernel follows: one entry a pod, however many volumes it has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from agent.delivery import cgroups
from agent.kernel.layout import UNKNOWN_MAIN, PodFlag, TaskFlag
from agent.kernel.store import Maps
from agent.model import From, VolumePlan
from kernelsecret.errors import Code, Refused


@dataclass(frozen=True, slots=True)
class Identity:
    """How the kernel knows a task of the pod: by cgroup, or where the pod has none by its namespaces."""

    pod_id: int
    cgroup_id: int = 0
    mount_ns: int = 0
    pid_ns: int = 0


@dataclass(slots=True)
class Followed:
    """One pod."""

    pod_id: int
    cgroup_id: int
    flags: int = 0
    holders: set[str] = field(default_factory=set)


class Pods:
    """Who is followed, for which volumes. `root` is the cgroup hierarchy's, None on a node without one."""

    def __init__(self, maps: Maps, root: Path | None) -> None:
        self._maps = maps
        self._root = root
        self._pods: dict[str, Followed] = {}

    def follow(self, plan: VolumePlan) -> Identity:
        """Follow the plan's pod from now on; refused where it has neither a cgroup nor a first task."""
        directory = cgroups.find_pod(self._root, plan.pod.uid) if self._root else None
        if directory is None:
            return self._by_namespaces(plan)
        cgroup_id = cgroups.cgroup_id(directory)
        pod = self._pods.get(plan.pod.uid)
        if pod is None or pod.cgroup_id != cgroup_id:
            pod = self._pods[plan.pod.uid] = Followed(self._maps.new_id(), cgroup_id)
            # Once for what runs already, and once more for what began in the meantime.
            self._close_running(directory, pod.pod_id)
            self._maps.put_pod(cgroup_id, pod.pod_id, pod.flags)
            self._close_running(directory, pod.pod_id)
        if plan.access.from_ is From.BINARIES and not pod.flags & PodFlag.HOLD:
            pod.flags |= PodFlag.HOLD
            self._maps.put_pod(cgroup_id, pod.pod_id, pod.flags)
        pod.holders.add(plan.volume_id)
        return Identity(pod.pod_id, cgroup_id=cgroup_id)

    def _close_running(self, directory: Path, pod_id: int) -> None:
        """A container that ran before its pod was followed has had its first task: whoever enters next is not it."""
        for container in directory.iterdir():
            if container.is_dir() and any(cgroups.tasks_below(container)):
                self._maps.close_container(cgroups.cgroup_id(container), pod_id)

    def _by_namespaces(self, plan: VolumePlan) -> Identity:
        if plan.first_pid is None:
            raise Refused(
                Code.FAILED_PRECONDITION,
                "pod.uid",
                f"pod {plan.pod.uid} has no cgroup on this node",
                "kubelet makes it before it mounts; check kubelet's cgroupsPerQOS",
            )
        try:
            pidfd = os.pidfd_open(plan.first_pid)
        except OSError as error:
            raise Refused(Code.FAILED_PRECONDITION, "pod.firstPid", f"no such task: {plan.first_pid}") from error
        try:
            identity = Identity(
                self._maps.new_id(),
                mount_ns=os.stat(f"/proc/{plan.first_pid}/ns/mnt").st_ino,
                pid_ns=os.stat(f"/proc/{plan.first_pid}/ns/pid_for_children").st_ino,
            )
            self._maps.mark_task(pidfd, identity.pod_id, TaskFlag.MAIN | TaskFlag.ROOT)
            return identity
        finally:
            os.close(pidfd)

    def adopt(self, followed: Iterable[tuple[VolumePlan, int, int]]) -> None:
        """Take over each volume's (plan, pod id, cgroup id) from an earlier agent; drop the pods that nobody shows."""
        for plan, pod_id, cgroup_id in followed:
            if not cgroup_id:
                continue
            pod = self._pods.setdefault(plan.pod.uid, Followed(pod_id, cgroup_id))
            if plan.access.from_ is From.BINARIES:
                pod.flags |= PodFlag.HOLD
            pod.holders.add(plan.volume_id)
        kept = {pod.cgroup_id for pod in self._pods.values()}
        for cgroup_id in self._maps.pods():
            if cgroup_id not in kept:
                self._maps.drop_pod(cgroup_id)
        self._drop_containers({pod.pod_id for pod in self._pods.values()})

    def leave(self, plan: VolumePlan) -> None:
        """A volume has ended; the pod's last one ends the following. After a fence. Idempotent."""
        pod = self._pods.get(plan.pod.uid)
        if pod is None or plan.volume_id not in pod.holders:
            return
        pod.holders.discard(plan.volume_id)
        if not pod.holders:
            del self._pods[plan.pod.uid]
            self._maps.drop_pod(pod.cgroup_id)
            self._drop_containers({other.pod_id for other in self._pods.values()})

    def _drop_containers(self, kept: set[int]) -> None:
        for cgroup_id, container in self._maps.containers().items():
            if container.pod_id not in kept:
                self._maps.drop_container(cgroup_id)

    def main_tasks(self) -> dict[int, list[tuple[int, int]]]:
        """By pod id, (host pid, flags) of the first program of each of its containers."""
        found: dict[int, list[tuple[int, int]]] = {}
        for container in self._maps.containers().values():
            if container.main_tgid not in (0, UNKNOWN_MAIN):
                found.setdefault(container.pod_id, []).append((container.main_tgid, container.flags))
        return found
