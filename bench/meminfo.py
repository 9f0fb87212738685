"""The kernel's memory, read so that nothing it can take for us is left out. The parser is pure."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

PARTS = ("Slab", "KernelStack", "PageTables", "VmallocUsed", "Percpu", "Shmem")
"""What BPF maps, mounts, inodes and tmpfs pages can be counted in."""

WAITING = "free, waiting in a CPU's list"
ROOM = "free, room in slabs"
LOOK_S, MOST_LOOKS, QUIET_KB = 0.5, 30, 32


def parse(text: str) -> dict[str, int]:
    """Kilobytes (1024 B) by name, of /proc/meminfo."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if rest:
            found[name] = int(rest.split()[0])
    return found


def by_part(found: Mapping[str, int]) -> int:
    """Sum of the kernel's parts, in KB."""
    return sum(found[name] for name in PARTS) - found[ROOM]


def by_rest(found: Mapping[str, int]) -> int:
    """All memory that is neither free nor a process's nor the page cache's, in KB: it catches pages that no part
    counts, and with them more noise. Pages of a tmpfs count as the kernel's.
    """
    others = ("MemFree", WAITING, ROOM, "Cached", "Buffers", "SwapCached", "AnonPages")
    return found["MemTotal"] - sum(found[name] for name in others) + found["Shmem"]


def waiting(zoneinfo: str, page_kb: int) -> int:
    """KB of free pages that wait in the lists of single CPUs, of /proc/zoneinfo: meminfo counts them as used."""
    counts = [line.split() for line in zoneinfo.splitlines()]
    return sum(int(words[1]) for words in counts if len(words) == 2 and words[0] == "count:") * page_kb


def room(slabinfo: str, page_kb: int) -> int:
    """KB of room for objects in slabs that others have left, of /proc/slabinfo. What goes into it makes no slab grow:
    on a node that was busy before, the kernel's memory would seem to cost less.
    """
    free = 0.0
    for line in slabinfo.splitlines():
        words = line.split()
        if len(words) > 5 and words[1].isdigit():
            active, objects, objects_a_slab, pages = (int(words[n]) for n in (1, 2, 4, 5))
            free += (objects - active) * pages * page_kb / objects_a_slab
    return round(free)


def read() -> dict[str, int]:
    """Of this moment, after dropping what the kernel would give back anyway (dentries and inodes that nobody uses)."""
    page_kb = os.sysconf("SC_PAGESIZE") // 1024
    Path("/proc/sys/vm/drop_caches").write_text("2")
    found = parse(Path("/proc/meminfo").read_text())
    found[WAITING] = waiting(Path("/proc/zoneinfo").read_text(), page_kb)
    found[ROOM] = room(Path("/proc/slabinfo").read_text(), page_kb)
    return found


def settled() -> dict[str, int]:
    """The first reading that does not differ from the one before: the kernel frees much of what has ended later."""
    found = read()
    for _ in range(MOST_LOOKS):
        time.sleep(LOOK_S)
        last, found = found, read()
        if abs(by_part(found) - by_part(last)) <= QUIET_KB:
            break
    return found


def charged(cgroup: Path) -> int:
    """KB of kernel memory and tmpfs pages that one cgroup is charged: what its tasks made, whatever others do. Not
    everything is charged to anyone.
    """
    stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    v1 = cgroup / "memory.kmem.usage_in_bytes"
    kernel = int(v1.read_text()) if v1.exists() else int(stat["kernel"])
    return (kernel + int(stat["shmem"])) // 1024
