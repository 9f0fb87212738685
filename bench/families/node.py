"""A node with 250 pods, each with four files of its own: what it takes to publish them, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.kernel import calls
from agent.node_kernel import BPFFS
from bench import meminfo
from bench.families.rotation import distribution
from bench.figures import measured
from bench.options import Options, Outcome, say
from bench.results import Series
from bench.stats import median, percentile, slope
from bench.world import World

FIGURES = ("kernel_kb_per_pod", "kernel_fixed_mb", "agent_rss_mb_250_pods", "publish_p50_ms", "publish_p99_ms")
FILES = 4
BYTES = 1024
STEP = 25
"""Pods between two looks at the memory."""


def run(options: Options) -> Outcome:
    """No pod shares a value with another: the dearest case."""
    outcome = Outcome()
    count = options.rounds(250, 100)
    with World() as world:
        for number in range(count):
            world.write_secret(f"own/{number}", {f"key{n}": os.urandom(BYTES) for n in range(FILES)})
            world.interceptor(f"pod-{number}", {f"own/{number}": [(f"file{n}.txt", f"key{n}") for n in range(FILES)]})
        # Cgroups and folders are kubelet's and the runtime's, so they are there before anything is counted.
        pods = [world.add_pod(f"pod-{number}") for number in range(count)]
        world.start_agent()
        _fixed(outcome, world.settings.run_dir / BPFFS)
        started = meminfo.settled()
        say(f"publishing {count} volumes of {FILES} files")
        looks = Looks(world.agent_cgroup)
        looks.add(0, started)
        seconds = []
        for number, pod in enumerate(pods, 1):
            seconds.append(world.publish(pod))
            if number % STEP == 0:
                looks.add(number, meminfo.read())
        _per_pod(outcome, looks)
        _publish(outcome, seconds)
        # An agent at work: each secret has changed since.
        for number in range(count):
            world.change_secret(f"own/{number}", "key0", os.urandom(BYTES))
        world.status()
        rss, highest = world.agent.rss_mb()
    how = (
        f"VmRSS of the agent with {count} pods of {FILES} files of {BYTES} B, all different, after one rotation of "
        f"each; at its highest {highest:.1f} MB"
    )
    outcome.figures.append(measured("agent_rss_mb_250_pods", rss, how, 1))
    return outcome


def _fixed(outcome: Outcome, bpffs: Path) -> None:
    """By the kernel's own account of each map: in meminfo it would be lost in the noise of a starting process."""
    pins = [*bpffs.glob("maps/*"), *bpffs.glob("programs_*/serve")]
    charged = sum(memlock(pin) for pin in pins) / 1048576
    how = (
        f"what the kernel charges for the {len(pins)} pinned maps and the serving program of a node without a volume "
        "(`memlock` of their fdinfo); hash maps grow with what is in them, other tables have full size from the start"
    )
    outcome.figures.append(measured("kernel_fixed_mb", charged, how, 1))


def memlock(pin: Path) -> int:
    """Bytes that a pinned map or program is charged."""
    fd = calls.get(str(pin))
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("memlock:"))
    finally:
        os.close(fd)


@dataclass(slots=True)
class Looks:
    """(pods, KB) in three ways; see bench.meminfo."""

    agent: Path
    parts: list[tuple[float, float]] = field(default_factory=list)
    rests: list[tuple[float, float]] = field(default_factory=list)
    charges: list[tuple[float, float]] = field(default_factory=list)

    def add(self, pods: int, found: Mapping[str, int]) -> None:
        """What there was with so many pods."""
        self.parts.append((pods, meminfo.by_part(found)))
        self.rests.append((pods, meminfo.by_rest(found)))
        self.charges.append((pods, meminfo.charged(self.agent)))


def _per_pod(outcome: Outcome, looks: Looks) -> None:
    pods = int(looks.parts[-1][0])
    how = (
        f"growth of {'+'.join(meminfo.PARTS)} in /proc/meminfo, less the room that is left in slabs, over {pods} pods "
        f"with {FILES} files of {BYTES} B that no other pod shares, unused dentries and inodes dropped; median slope "
        f"between looks every {STEP} pods. Two other ways: all memory that is neither free nor a process's nor page "
        f"cache, {slope(looks.rests):.1f} KB (these two count what the whole machine does); what the kernel "
        f"charges the agent's cgroup, {slope(looks.charges):.1f} KB. State files and mounts are in it; open files "
        "(32 KB each while open) and tasks are not"
    )
    outcome.figures.append(measured("kernel_kb_per_pod", slope(looks.parts), how, 1))
    first = looks.parts[0][1]
    outcome.series["kernel_kb"] = Series([x for x, _ in looks.parts], [y - first for _, y in looks.parts])


def _publish(outcome: Outcome, seconds: list[float]) -> None:
    times = [s * 1000 for s in seconds]
    how = (
        f"NodePublishVolume over the CSI socket as kubelet sees it, Python's gRPC client included; {len(times)} "
        f"volumes of {FILES} files in a row, none unpublished; at most {max(times):.1f} ms"
    )
    outcome.figures.append(measured("publish_p50_ms", median(times), how))
    outcome.figures.append(measured("publish_p99_ms", percentile(times, 99), how))
    outcome.series["publish_ms"] = distribution(times)
