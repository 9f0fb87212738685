"""open + read + close of a served file, beside the same file on tmpfs: in one process, round by round."""

from __future__ import annotations

from pathlib import Path

from agent.delivery import mounts
from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.results import Series
from bench.stats import Interval, interval_of_median, median
from bench.world import Pod, World

SIZES = {"32b": 32, "4k": 4096}
PLOTTED = {"1k": 1024, "16k": 16384, "48k": 49152}
FIGURES = (
    "read_32b_over_tmpfs_us",
    "read_4k_over_tmpfs_us",
    "read_32b_to_eof_over_tmpfs_us",
    "read_4k_to_eof_over_tmpfs_us",
)
READS = 400


def run(options: Options) -> Outcome:
    """The reader is a container's first program under the default access rule."""
    outcome = Outcome()
    sizes = SIZES | PLOTTED
    with World() as world:
        world.write_secret("reads", {name: b"x" * size for name, size in sizes.items()})
        world.interceptor("reads", {"reads": [(name, name) for name in sizes]})
        world.start_agent()
        pod = world.add_pod("reads", containers=2)
        world.publish(pod)
        plain = tmpfs_beside(pod, {name: b"x" * size for name, size in sizes.items()})
        try:
            rounds = options.rounds(300, 40)
            for container, mode in enumerate(("once", "whole")):
                say(f"reading {mode}: {rounds} rounds of {READS} reads of each file, served and on tmpfs in turn")
                names = list(SIZES if mode == "once" else sizes)
                paths = [path for name in names for path in (pod.target / name, plain / name)]
                command = world.command(pod, "reads", mode, str(rounds), str(READS), *paths, container=container)
                times = parse(world.tools.run_command(command))
                for number, name in enumerate(names):
                    served, other = times[2 * number], times[2 * number + 1]
                    if name in SIZES:
                        outcome.figures.append(_figure(name, mode, served, other))
                if mode == "whole":
                    kb = [sizes[name] / 1024 for name in sorted(names, key=sizes.__getitem__)]
                    order = [names.index(name) for name in sorted(names, key=sizes.__getitem__)]
                    outcome.series["read_served_us"] = Series(kb, [_us(times[2 * i]) for i in order])
                    outcome.series["read_tmpfs_us"] = Series(kb, [_us(times[2 * i + 1]) for i in order])
        finally:
            mounts.unmount(plain)
    return outcome


def tmpfs_beside(pod: Pod, values: dict[str, bytes]) -> Path:
    """The same files on a plain tmpfs whose path is as deep as the volume's; the caller unmounts it."""
    folder = pod.target.parents[2] / "kubernetes.io~tmpf" / pod.target.parent.name / pod.target.name
    folder.mkdir(parents=True)
    mounts.mount_new("tmpfs", folder, "mode=755")
    for name, value in values.items():
        (folder / name).write_bytes(value)
    return folder


def parse(text: str) -> dict[int, list[float]]:
    """Nanoseconds a read by the number of the file, in the order of the rounds."""
    times: dict[int, list[float]] = {}
    for line in text.splitlines():
        number, ns = line.split()
        times.setdefault(int(number), []).append(float(ns))
    return times


def over(served: list[float], other: list[float]) -> Interval:
    """By how many microseconds the served file is slower, round by round."""
    return interval_of_median([(a - b) / 1000 for a, b in zip(served, other, strict=True)])


def _us(ns: list[float]) -> float:
    return round(median(ns) / 1000, 3)


def _figure(name: str, mode: str, served: list[float], other: list[float]) -> Figure:
    added = over(served, other)
    what = "open + one read + close" if mode == "once" else "open + read until nothing comes + close"
    how = (
        f"{what} in C, by a container's first program under `from: app`; median of {len(served)} paired rounds of "
        f"{READS} reads, {_us(served)} us against {_us(other)} us on a plain tmpfs file without links; "
        f"95 % interval {added.low:.2f}..{added.high:.2f} us"
    )
    figure = f"read_{name}_over_tmpfs_us" if mode == "once" else f"read_{name}_to_eof_over_tmpfs_us"
    return measured(figure, added.median, how)
