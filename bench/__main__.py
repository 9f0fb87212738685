"""`python -m bench`: measure, write the results and docs/benchmarks.md, and say which goals are missed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import report
from bench.families import FAMILIES, Family, chosen
from bench.figures import BY_NAME, Figure, missed
from bench.options import Options
from bench.results import RESULTS, Results, Series, commit, encode, load, load_series, machine, merge, save

ROOT = Path(__file__).parents[1]
# What a quick or partial run finds is not what the documentation shows.
UNOFFICIAL = ROOT / "build" / "bench" / "results.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 where a goal is missed or a measurement failed, 2 for a wrong command line or a lack."""
    options = _parser().parse_args(arguments)
    if options.list:
        for family in FAMILIES:
            print(f"{family.name}: {' '.join(family.figures)}")
        return 0
    if options.report:
        report.write(load(RESULTS), load_series(RESULTS), ROOT / "docs")
        return 0
    try:
        families = chosen(options.only)
    except KeyError as error:
        print(f"nothing is called {error.args[0]!r}; `python -m bench --list` names what there is", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("the benchmarks run the real agent: they need root and BPF", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken away
    figures, series, failed = _measure(families, Options(options.quick))
    results = Results(machine(), commit(), figures)
    official = not options.quick and (not options.only or options.merge)
    path = options.results or (RESULTS if official else UNOFFICIAL)
    if options.merge and path.exists():
        results = Results(results.machine, results.commit, merge(load(path).figures, figures))
        series = load_series(path) | series
    save(path, results, series)
    if official:
        report.write(results, series, ROOT / "docs")
    if options.output == "json":
        sys.stdout.write(encode(results).decode())
    else:
        _show(figures)
        print(f"written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", file=sys.stderr)
    return 1 if failed or missed(figures) else 0


def _measure(families: Sequence[Family], options: Options) -> tuple[list[Figure], dict[str, Series], bool]:
    """One family after the other; one that fails does not keep the others from being measured."""
    figures: list[Figure] = []
    series: dict[str, Series] = {}
    failed = False
    for number, family in enumerate(families, 1):
        print(f"[{number}/{len(families)}] {family.name}", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            outcome = family.run(options)
        except Exception as error:  # noqa: BLE001 - said, and the exit status tells
            print(f"  failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        figures += outcome.figures
        series |= outcome.series
        print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures, series, failed


def _show(figures: Sequence[Figure]) -> None:
    for figure in figures:
        mark = "" if not figure.goal else "ok" if BY_NAME[figure.name].is_met_by(figure.value) else "MISSED"
        print(f"{figure.name:32} {figure.value:>10g} {figure.unit:3} {figure.goal:10} {mark}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a family or a figure; repeatable")
    parser.add_argument("--quick", action="store_true", help="few rounds: an idea of each figure, no promise")
    parser.add_argument("--merge", action="store_true", help="keep the other figures of the results file")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where the results go")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="what standard output gets")
    parser.add_argument("--list", action="store_true", help="name families and figures")
    parser.add_argument("--report", action="store_true", help="only make docs/benchmarks.md from the results anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
