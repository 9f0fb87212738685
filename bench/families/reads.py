"""open + read + close of a served file, beside the same file on tmpfs: in one process, round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
MODES = {"once": "open + one read + close", "whole": "open + read until nothing comes + close"}
WORDS = {"once": "", "whole": "to_eof_"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Nanoseconds a read in each round, served and on tmpfs."""

    served: list[float]
    tmpfs: list[float]

    def added_us(self) -> Interval:
        """By how many microseconds the served file is slower, round by round."""
        return interval_of_median([(a - b) / 1000 for a, b in zip(self.served, self.tmpfs, strict=True)])


def run(options: Options) -> Outcome:
    """The reader is a container's first program under the default access rule."""
    outcome = Outcome()
    rounds = options.rounds(300, 40)
    with World() as world:
        for name, sizes in (("small", SIZES), ("all", SIZES | PLOTTED)):
            world.write_secret(name, {key: b"x" * size for key, size in sizes.items()})
            world.interceptor(name, {name: [(key, key) for key in sizes]})
        world.start_agent()
        for mode in MODES:
            say(f"reading {mode}: {rounds} rounds of {READS} reads of each file, served and on tmpfs in turn")
            for name, pair in compare(world, "small", SIZES, mode, rounds).items():
                outcome.figures.append(_figure(name, mode, pair))
        # Beside a long value: every read of the volume then walks over the steps that the long one needs.
        say("reading whole files of other sizes")
        pairs = compare(world, "all", SIZES | PLOTTED, "whole", rounds // 3)
    points = sorted((size, pairs[name]) for name, size in (SIZES | PLOTTED).items())
    kb = [size / 1024 for size, _ in points]
    outcome.series["read_served_us"] = Series(kb, [_us(pair.served) for _, pair in points])
    outcome.series["read_tmpfs_us"] = Series(kb, [_us(pair.tmpfs) for _, pair in points])
    return outcome


def compare(world: World, secret: str, sizes: Mapping[str, int], mode: str, rounds: int) -> dict[str, Pair]:
    """Publish the secret to a new pod and read its files there, and the same files on tmpfs."""
    pod = world.add_pod(secret)
    world.publish(pod)
    plain = tmpfs_beside(pod, {name: b"x" * size for name, size in sizes.items()})
    try:
        paths = [path for name in sizes for path in (pod.target / name, plain / name)]
        command = world.command(pod, "reads", mode, str(rounds), str(READS), *paths)
        times = parse(world.tools.run_command(command))
    finally:
        mounts.unmount(plain)
    return {name: Pair(times[2 * number], times[2 * number + 1]) for number, name in enumerate(sizes)}


def tmpfs_beside(pod: Pod, values: Mapping[str, bytes]) -> Path:
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


def _us(ns: Sequence[float]) -> float:
    return round(median(ns) / 1000, 3)


def _figure(name: str, mode: str, pair: Pair) -> Figure:
    added = pair.added_us()
    how = (
        f"{MODES[mode]} in C, by a container's first program under `from: app`; median of {len(pair.served)} paired "
        f"rounds of {READS} reads, {_us(pair.served)} us against {_us(pair.tmpfs)} us on a plain tmpfs file without "
        f"links; 95 % interval {added.low:.2f}..{added.high:.2f} us"
    )
    return measured(f"read_{name}_{WORDS[mode]}over_tmpfs_us", added.median, how)
