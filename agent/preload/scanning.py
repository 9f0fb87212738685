"""What /proc shows of the processes of a pod: which container's view they have, and whether the shim is in them.

A process may end, or execute another program, between any two looks. So what was seen is believed only where the same
program was there before and after.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

from agent.delivery import cgroups, mounts
from agent.preload.judging import SHIM_POINTS, Program, judge, maps_device, read_start, shown_path

MOST_ENVIRON: Final = 4 << 20
"""Bytes of an environment that are looked through; the kernel passes on less."""
MOST_MAPS: Final = 16 << 20
MOST_AUXV: Final = 4096
MOST_PROCESSES: Final = 2000
"""Processes of one pod that are looked at."""
MOST_VIEWS: Final = 64
"""Mount namespaces of one pod whose processes are judged in one look; a container has one."""


@dataclass(frozen=True, slots=True)
class Image:
    """One program in one process, from its exec to its end or the next exec: the kernel gives each exec addresses of
    its own in the vector that `start` is the digest of. `namespace` is the inode of its mount namespace."""

    pid: int
    namespace: int
    path: str
    start: bytes


@dataclass(frozen=True, slots=True)
class View:
    """What of a mount namespace decides: the device of the shim's mount, None where it has none, and all its mounts."""

    shim: int | None
    mounts: frozenset[int]


NO_VIEW: Final = View(None, frozenset())

Verdicts = Mapping[Image, Program | None]
"""None: reached by the shim, or not to be judged."""


def look_at_pod(root: Path | None, uid: str, known: Verdicts) -> Verdicts:
    """The verdict on each process of a pod. `root` is the cgroup hierarchy's; without one nobody knows a pod's."""
    directory = cgroups.find_pod(root, uid) if root else None
    if directory is None:
        return {}
    pids = islice(cgroups.tasks_below(directory), MOST_PROCESSES)
    return look(pids, known, lambda pid: cgroups.is_in_pod(pid, directory))


def look(
    pids: Iterable[int], known: Verdicts, is_ours: Callable[[int], bool] = lambda pid: True
) -> dict[Image, Program | None]:
    """The verdict on each process that is there; those on programs that are `known` are taken from there. What is said
    of a process is said only while it `is_ours`: its number may have been given to another since."""
    views: dict[int, View] = {}
    found: dict[Image, Program | None] = {}
    for pid in pids:
        try:
            image = read_image(pid)
            if image is None:
                continue
            if image in known:
                found[image] = known[image]
            else:
                verdict = _judged(image, views)
                if (verdict is None or is_ours(pid)) and read_image(pid) == image:
                    found[image] = verdict
        except (OSError, ValueError):
            continue  # it has ended
    return found


def read_image(pid: int) -> Image | None:
    """What a process executes; None for a thread of the kernel's and while an exec is half-way. Raises OSError where
    there is no such process."""
    path = os.readlink(f"/proc/{pid}/exe")
    auxv = _read_auxv(pid)
    if not any(auxv):
        return None
    return Image(pid, os.stat(f"/proc/{pid}/ns/mnt").st_ino, path, blake2b(auxv, digest_size=16).digest())


def _judged(image: Image, views: dict[int, View]) -> Program | None:
    pid, start = image.pid, read_start(_read_auxv(image.pid))
    if image.namespace not in views:
        views[image.namespace] = _view(pid) if len(views) < MOST_VIEWS else NO_VIEW
    view = views[image.namespace]
    if view.shim is None or start is None or maps_device(_read(pid, "maps", MOST_MAPS), view.shim):
        return None
    if _mount_of_program(pid) not in view.mounts:
        return None  # a container's runtime, which is still on its way into the container
    return Program(shown_path(image.path), judge(start, _read(pid, "environ", MOST_ENVIRON)))


def _view(pid: int) -> View:
    found = mounts.read_mounts(f"/proc/{pid}/mountinfo", mounts.MOST_OF_OTHERS)
    shim = [mount.device for mount in found if mount.point in SHIM_POINTS]
    return View(shim[-1] if shim else None, frozenset(mount.mount_id for mount in found))


def _mount_of_program(pid: int) -> int:
    """The mount that the program was executed from; asks no file system, which could keep us waiting."""
    fd = os.open(f"/proc/{pid}/exe", os.O_PATH | os.O_CLOEXEC)
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    return next(int(line[7:]) for line in info.splitlines() if line.startswith("mnt_id:"))


def _read_auxv(pid: int) -> bytes:
    return _read(pid, "auxv", MOST_AUXV)


def _read(pid: int, name: str, most: int) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        parts, left = [], most
        while left > 0 and (part := file.read(min(left, 1 << 16))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)
