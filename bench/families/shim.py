"""What the preloaded shim adds: to the open of a live file, and to every call that is not about one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.figures import Figure, measured
from bench.options import Options, Outcome, say
from bench.stats import interval_of_median, median
from bench.tools import Tools
from hatch_build import SHIM
from kernelsecret import names

FIGURES = ("shim_open_us", "shim_open_whole_us", "shim_other_call_ns", "shim_rewind_us")
CALLS = 200
OTHERS = {
    "open_other": "open + close of another file",
    "stat_other": "stat of it",
    "lseek_other": "lseek to its beginning",
    "pread_other": "pread there",
}
Times = dict[str, list[tuple[float, float]]]


def run(options: Options) -> Outcome:
    """A program under the shim as a container has it: a live volume, and one prefix that is found there."""
    rounds = options.rounds(2000, 200)
    say(f"{rounds} rounds of {CALLS} calls of each kind, by the shim and by the libc in turn")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="secrets-") as folder:
        root = Path(folder)
        # As long as a volume's path is in a pod, and beside each other, so that the paths are alike for long.
        live, other = root / "live", root / "other"
        for place in (live, other):
            place.mkdir(parents=True)
            (place / "key").write_bytes(b"x" * 32)
        # As a shell would start it: the shim is in the timer, and in nothing else.
        paths = f"{live}:{root}/legacy={live}"
        tools = Tools(root / "tools")
        command = ["env", f"{names.ENV_PRELOAD}={SHIM}", f"{names.ENV_SHIM_PATHS}={paths}", str(tools.path("shim"))]
        arguments = [str(rounds), str(CALLS), str(live / "key"), str(other / "key")]
        times = parse(tools.run_command([*command, *arguments], timeout_s=600))
    return Outcome(figures(times))


def parse(text: str) -> Times:
    """(ns through the shim, ns by the libc) of each round, by the work that was done."""
    pairs: Times = {}
    for line in text.splitlines():
        work, _, shim, libc = line.split()
        pairs.setdefault(work, []).append((float(shim), float(libc)))
    return pairs


def figures(times: Times) -> list[Figure]:
    """The worst of the others counts."""
    rounds = len(times["open_live"])
    opened, rewound = _added(times, "open_live"), _added(times, "rewind_live")
    libc_us = median([libc for _, libc in times["open_live"]]) / 1000
    whole_us = median([shim for shim, _ in times["open_live"]]) / 1000
    others = {work: _added(times, work)[0] for work in OTHERS}
    worst = max(others, key=lambda work: others[work])
    turns = f"median of {rounds} paired rounds of {CALLS} calls, through the shim and by the libc itself in one process"
    each = ", ".join(f"{words} {others[work]:+.0f} ns" for work, words in OTHERS.items())
    return [
        measured(
            "shim_open_us",
            opened[0] / 1000,
            f"open of a live file, which is followed from there on; {turns}; "
            f"{whole_us:.2f} us against {libc_us:.2f} us with the close; 95 % interval {opened[1]}",
        ),
        measured("shim_open_whole_us", whole_us, f"the same open with its close, all of it; {turns}"),
        measured(
            "shim_other_call_ns",
            others[worst],
            f"the worst of {each}; the other file lies beside the live "
            f"volume, so that the paths are alike for long; {turns}",
            1,
        ),
        measured(
            "shim_rewind_us",
            rewound[0] / 1000,
            f"lseek to the beginning of a live file that is held open and "
            f"was not rotated; {turns}; 95 % interval {rewound[1]}",
        ),
    ]


def _added(times: Times, work: str) -> tuple[float, str]:
    """Nanoseconds that the shim adds, and the interval in microseconds."""
    interval = interval_of_median([shim - libc for shim, libc in times[work]])
    return interval.median, f"{interval.low / 1000:.2f}..{interval.high / 1000:.2f} us"
