"""Everyone else on the node: what the lineage programs add to fork, exec, thread and file reads outside our pods."""

from __future__ import annotations

from pathlib import Path

from agent.kernel.programs import LINEAGE
from agent.node_kernel import BPFFS
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.stats import Interval, interval_of_median, median
from bench.world import World

WORKS = ("fork", "read", "exec", "thread")
FIGURES = tuple(f"unmanaged_{work}_percent" for work in WORKS)
WORDS = {
    "fork": "fork + exit + wait",
    "read": "open + read + close of a 4 KB file",
    "exec": "posix_spawn of a static program + wait",
    "thread": "pthread_create + join",
}


def run(options: Options) -> Outcome:
    """A node with a pod that is followed, and the timer outside of it."""
    rounds = options.rounds(700, 100)
    with World() as world:
        world.write_secret("one", {"key": b"x" * 32})
        world.interceptor("one", {"one": [("value", "key")]})
        world.start_agent()
        pod = world.add_pod("one")
        world.publish(pod)
        ordinary = world.folder / "ordinary"
        ordinary.write_bytes(b"x" * 4096)
        pins = links(world.settings.run_dir / BPFFS)
        say(f"{rounds} rounds of {', '.join(WORKS)}, each with the programs attached and detached")
        program = world.tools.path("launch")
        text = world.tools.run("unmanaged", str(rounds), ordinary, program, *pins)
    times = parse(text)
    program_ns = times.pop("program")[0][0]
    return Outcome([_figure(work, pairs, program_ns) for work, pairs in times.items()])


def links(bpffs: Path) -> list[Path]:
    """The pinned links of the lineage programs."""
    found = [path for name in LINEAGE for path in bpffs.glob(f"programs_*/{name}")]
    if len(found) != len(LINEAGE):
        raise FileNotFoundError(f"{len(found)} of {len(LINEAGE)} links of the lineage programs are pinned")
    return found


def parse(text: str) -> dict[str, list[tuple[float, float]]]:
    """(ns attached, ns detached) of each round, by the work that was done."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for line in text.splitlines():
        work, _, attached, detached = line.split()
        pairs.setdefault(work, []).append((float(attached), float(detached)))
    return pairs


def added_percent(pairs: list[tuple[float, float]]) -> Interval:
    """By how many percent the programs make it slower; below zero where noise is larger than the cost."""
    return interval_of_median([(attached / detached - 1) * 100 for attached, detached in pairs])


def _figure(work: str, pairs: list[tuple[float, float]], program_ns: float) -> Figure:
    added = added_percent(pairs)
    without = median([detached for _, detached in pairs]) / 1000
    how = (
        f"{WORDS[work]} in a process outside every pod, the four lineage programs attached and detached in turn; "
        f"median of {len(pairs)} paired rounds, 95 % interval {added.low:+.2f}..{added.high:+.2f} %; {without:.2f} us "
        f"without them; by the kernel's own clock they run {program_ns:.0f} ns a fork"
    )
    return measured(f"unmanaged_{work}_percent", added.median, how, 2)
