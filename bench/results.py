"""The results file and, beside it, the distributions that the plots are made of."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bench.figures import BY_NAME, Figure, in_order

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
SERIES = "series.json"


class Series(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points of a plot; what x and y are, the plot says."""

    x: list[float]
    y: list[float]


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one run found, on which machine, of which commit."""

    machine: str
    commit: str
    figures: list[Figure]


class UnreadableResults(ValueError):
    """The file is not what this program writes; the text says where."""


def load(path: Path) -> Results:
    """Raises UnreadableResults for another shape, an unknown figure, a figure twice, or a goal that is not today's."""
    try:
        results = msgspec.json.decode(path.read_bytes(), type=Results)
    except msgspec.MsgspecError as error:
        raise UnreadableResults(f"{path.name}: {error}") from error
    names = [figure.name for figure in results.figures]
    for figure in results.figures:
        spec = BY_NAME.get(figure.name)
        if spec is None:
            raise UnreadableResults(f"{path.name}: no figure is called {figure.name}")
        if (figure.unit, figure.goal) != (spec.unit, spec.goal):
            raise UnreadableResults(f"{path.name}: {figure.name} has another unit or goal than it has today")
    if len(names) != len(set(names)):
        raise UnreadableResults(f"{path.name}: a figure is there twice")
    return results


def load_series(path: Path) -> dict[str, Series]:
    """The distributions beside a results file; empty where there are none."""
    beside = path.with_name(SERIES)
    return msgspec.json.decode(beside.read_bytes(), type=dict[str, Series]) if beside.exists() else {}


def save(path: Path, results: Results, series: Mapping[str, Series]) -> None:
    """Write both files, readable and with a stable order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(results))
    path.with_name(SERIES).write_bytes(msgspec.json.encode(dict(sorted(series.items()))) + b"\n")


def encode(results: Results) -> bytes:
    """The file's content."""
    ordered = msgspec.structs.replace(results, figures=in_order(results.figures))
    return msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n"


def merge(old: Sequence[Figure], new: Sequence[Figure]) -> list[Figure]:
    """The old figures, with those replaced that were measured anew."""
    found = {figure.name: figure for figure in old} | {figure.name: figure for figure in new}
    return in_order(list(found.values()))


def machine() -> str:
    """What the figures depend on, and nothing that names this machine."""
    model = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    parts = (
        f"{model or platform.machine()}, {os.cpu_count()} CPUs, {memory / 1048576:.0f} GiB",
        f"Linux {os.uname().release} {platform.machine()}",
        f"Python {platform.python_version()}",
    )
    return "; ".join(parts)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def commit() -> str:
    """The commit that was measured, with `+changes` where the tree is not what was committed."""
    git = ["git", "-C", str(HERE.parent), "-c", f"safe.directory={HERE.parent}"]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "agent", "bpf", "kernelsecret"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
