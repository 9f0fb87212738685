"""A pod's cgroups, where kubelet makes them: the same path in the hierarchies that say whose a process is."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.kernel.node import parse_hierarchy

END_WITHIN_S = 10.0
ATTEMPTS = 5

_made_shared: set[Path] = set()
"""`kubepods` and `kubepods/burstable` where this process made them: whichever of its pods ends last removes them, and a
kubelet's own stay."""


def read_hierarchies() -> list[Path]:
    """Roots of every hierarchy, that in which the agent looks for pods first. Empty without cgroups."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    found = parse_hierarchy(Path("/proc/self/cgroup").read_text(), mountinfo)
    if found is None:
        return []
    roots = [found.root]
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, point = right.split()[0], Path(left.split()[4])
        if kind in ("cgroup", "cgroup2") and point not in roots:
            roots.append(point)
    return roots


@dataclass(slots=True)
class PodCgroups:
    """One path in several hierarchies. `directories` are the pod's, the decisive hierarchy's first."""

    directories: list[Path]
    _made: list[Path] = field(default_factory=list)
    _shared: list[Path] = field(default_factory=list)

    @classmethod
    def make(cls, path: str, roots: list[Path]) -> PodCgroups:
        """Make the pod's cgroup below every root. Raises OSError, with nothing left behind."""
        made = cls([root / path for root in roots])
        *above, name = path.split("/")
        try:
            for root in roots:
                made._make_below(root, above, name)
        except BaseException:
            made.remove()
            raise
        return made

    def make_container(self, container_id: str) -> None:
        """Make a container's cgroup in the pod's. Raises OSError."""
        for directory in self.directories:
            if _make(directory / container_id):
                self._made.append(directory / container_id)

    def attach(self, pid: int, container_id: str = "") -> None:
        """Move a process into the container's cgroup (or the pod's own). Raises OSError."""
        for directory in self.directories:
            (directory / container_id / "cgroup.procs").write_text(str(pid))

    def tasks(self) -> Iterator[int]:
        """Pids in the pod, in any of its hierarchies."""
        for directory in self.directories:
            for folder, _, _ in os.walk(directory):
                with suppress(OSError):
                    yield from map(int, (Path(folder) / "cgroup.procs").read_text().split())

    def remove(self) -> None:
        """Kill whatever is left in the pod and remove the cgroups made here. Raises TimeoutError."""
        until = time.monotonic() + END_WITHIN_S
        while _kill(set(self.tasks())):
            if time.monotonic() > until:
                raise TimeoutError("processes of the pod do not end")
        while self._made:
            _remove(self._made[-1], until)
            self._made.pop()
        for directory in reversed(self._shared):
            if directory in _made_shared:
                with suppress(OSError):  # another pod is in it
                    directory.rmdir()
                    _made_shared.discard(directory)

    def _make_below(self, root: Path, above: list[str], name: str) -> None:
        folders = [root.joinpath(*above[: depth + 1]) for depth in range(len(above))]
        self._shared += folders
        for attempt in range(ATTEMPTS):
            try:
                for folder in folders:
                    if _make(folder):
                        _made_shared.add(folder)
                directory = root.joinpath(*above, name)
                if _make(directory):
                    self._made.append(directory)
            except FileNotFoundError:  # the last pod of another process has just removed what is above
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return


def _make(directory: Path) -> bool:
    """Whether it was missing."""
    try:
        directory.mkdir()
    except FileExistsError:
        return False
    # Version 1's cpuset takes no task before it is told where tasks may run.
    for name in ("cpuset.cpus", "cpuset.mems"):
        with suppress(FileNotFoundError):
            if not (directory / name).read_text().strip():
                (directory / name).write_text((directory.parent / name).read_text())
    return True


def _remove(directory: Path, until: float) -> None:
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # A task that has ended is counted until it has been switched away from, and version 1 tells nobody.
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
            time.sleep(0.001)
        else:
            return


def _kill(pids: set[int]) -> bool:
    """Kill and wait for the end of each; whether there was any."""
    poll, descriptors = select.poll(), []
    try:
        for pid in pids:
            with suppress(OSError):
                descriptors.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(descriptors[-1], signal.SIGKILL)
                poll.register(descriptors[-1], select.POLLIN)
        waiting = set(descriptors)
        until = time.monotonic() + END_WITHIN_S
        while waiting and time.monotonic() < until:
            for descriptor, _ in poll.poll(1000):
                poll.unregister(descriptor)
                waiting.discard(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return bool(pids)
