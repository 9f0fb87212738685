"""The kernel's memory, read so that nothing it can take for us is left out. The parser is pure."""

from __future__ import annotations

import os
from pathlib import Path

PARTS = ("Slab", "KernelStack", "PageTables", "VmallocUsed", "Percpu", "Shmem")
"""What BPF maps, mounts, inodes and tmpfs pages can be counted in."""

WAITING = "free, waiting in a CPU's list"


def parse(text: str) -> dict[str, int]:
    """Kilobytes (1024 B) by name, of /proc/meminfo."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if rest:
            found[name] = int(rest.split()[0])
    return found


def by_part(found: dict[str, int]) -> int:
    """Sum of the kernel's parts, in KB."""
    return sum(found[name] for name in PARTS)


def by_rest(found: dict[str, int]) -> int:
    """All memory that is neither free nor a process's nor the page cache's, in KB: it catches pages that no part
    counts, and with them more noise. Pages of a tmpfs count as the kernel's.
    """
    others = ("MemFree", WAITING, "Cached", "Buffers", "SwapCached", "AnonPages")
    return found["MemTotal"] - sum(found[name] for name in others) + found["Shmem"]


def waiting(zoneinfo: str, page_kb: int) -> int:
    """KB of free pages that wait in the lists of single CPUs, of /proc/zoneinfo: meminfo counts them as used."""
    counts = [line.split() for line in zoneinfo.splitlines()]
    return sum(int(words[1]) for words in counts if len(words) == 2 and words[0] == "count:") * page_kb


def read() -> dict[str, int]:
    """Of this moment, after dropping what the kernel would give back anyway (dentries and inodes that nobody uses)."""
    Path("/proc/sys/vm/drop_caches").write_text("2")
    found = parse(Path("/proc/meminfo").read_text())
    found[WAITING] = waiting(Path("/proc/zoneinfo").read_text(), os.sysconf("SC_PAGESIZE") // 1024)
    return found
