"""Figures, their goals, the results file and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.families import FAMILIES, chosen
from bench.figures import BY_NAME, SPECS, Figure, in_order, measured, missed
from bench.plots import PLOTS, draw
from bench.report import page, write
from bench.results import Results, Series, UnreadableResults, encode, load, load_series, machine, merge, save

PROMISED = [
    "read_32b_over_tmpfs_us",
    "read_4k_over_tmpfs_us",
    "rotation_1_p50_ms",
    "rotation_1_p99_ms",
    "rotation_250_p50_ms",
    "rotation_250_p99_ms",
    "flips_shared_by_1000",
    "last_of_1000_visible_ms",
    "kernel_kb_per_pod",
    "agent_rss_mb_250_pods",
    "publish_p50_ms",
    "adopt_1000_s",
    "torn_reads_of_100000",
    "unmanaged_fork_percent",
    "unmanaged_read_percent",
    "webhook_20k_rps_core",
    "webhook_20k_cpu_us",
    "webhook_20k_p99_half_load_ms",
    "webhook_rss_mb",
    "webhook_rss_growth_mb",
]


def every_figure(value: float = 1) -> list[Figure]:
    return [measured(spec.name, value, "by counting") for spec in SPECS]


def results(*figures: Figure) -> Results:
    return Results("a machine", "abc", list(figures))


def test_every_promised_figure_has_a_goal_and_a_family_that_measures_it() -> None:
    for name in PROMISED:
        assert BY_NAME[name].limit is not None
        assert [family for family in FAMILIES if name in family.figures]


def test_every_figure_is_measured_by_one_family_and_every_family_measures_known_ones() -> None:
    measured_by_some = [name for family in FAMILIES for name in family.figures]
    assert sorted(measured_by_some) == sorted(BY_NAME)


def test_names_choose_families_and_an_unknown_name_is_refused() -> None:
    assert [family.name for family in chosen(["publish_p50_ms"])] == ["node"]
    assert [family.name for family in chosen(["torn"])] == ["torn"]
    assert chosen([]) == list(FAMILIES)
    with pytest.raises(KeyError):
        chosen(["nonsense"])
    assert main(["--only", "nonsense"]) == 2


@pytest.mark.parametrize(
    ("name", "value", "is_met"),
    [
        ("rotation_1_p50_ms", 19.9, True),
        ("rotation_1_p50_ms", 20.0, False),
        ("rotation_1_p50_ms", float("nan"), False),
        ("torn_reads_of_100000", 0, True),
        ("torn_reads_of_100000", 1, False),
        ("flips_shared_by_1000", 1, True),
        ("flips_shared_by_1000", 2, False),
        ("unmanaged_fork_percent", -0.2, True),
        ("kernel_fixed_mb", 1e9, True),
        ("webhook_20k_rps_core", 4000, False),
        ("webhook_20k_rps_core", 4001, True),
        ("webhook_20k_rps_core", float("nan"), False),
    ],
)
def test_a_goal_is_met_or_missed(name: str, value: float, is_met: bool) -> None:
    assert (missed([measured(name, value, "", digits=9)]) == []) is is_met


def test_a_goal_is_taken_up_by_what_misses_it_whichever_way_it_points() -> None:
    shares = [
        BY_NAME[name].share_of_goal(value)
        for name, value in (
            ("publish_p50_ms", 5),
            ("webhook_20k_rps_core", 8000),
            ("webhook_20k_rps_core", 2000),
            ("webhook_20k_rps_core", 0),
            ("kernel_fixed_mb", 5),
        )
    ]
    assert shares == [0.5, 0.5, 2.0, float("inf"), None]


def test_a_figure_nobody_declared_cannot_be_measured() -> None:
    with pytest.raises(KeyError):
        measured("speed", 1, "")


def test_the_file_has_the_agreed_shape_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    series = {"rotation_1_ms": Series([0.0, 100.0], [1.0, 2.0])}
    save(path, results(*reversed(every_figure())), series)
    document = json.loads(path.read_text())
    assert sorted(document) == ["commit", "figures", "machine"]
    assert all(sorted(figure) == ["goal", "how", "name", "unit", "value"] for figure in document["figures"])
    assert [figure["name"] for figure in document["figures"]] == [spec.name for spec in SPECS]
    assert load(path) == results(*every_figure())
    assert load_series(path) == series


@pytest.mark.parametrize(
    "figures",
    [
        [Figure("speed", 1, "", "", "")],
        [Figure("rotation_1_p50_ms", 1, "ms", "< 200 ms", "")],
        [measured("publish_p50_ms", 1, ""), measured("publish_p50_ms", 2, "")],
    ],
)
def test_unknown_figures_other_goals_and_doubles_are_refused(figures: list[Figure], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(json.dumps({"machine": "", "commit": "", "figures": [vars_of(f) for f in figures]}).encode())
    with pytest.raises(UnreadableResults):
        load(path)


def vars_of(figure: Figure) -> dict[str, object]:
    return {name: getattr(figure, name) for name in ("name", "value", "unit", "goal", "how")}


def test_merging_replaces_what_was_measured_anew_and_keeps_the_rest() -> None:
    old, new = every_figure(1), [measured("publish_p50_ms", 5, "again")]
    merged = {figure.name: figure.value for figure in merge(old, new)}
    assert merged == {spec.name: 5.0 if spec.name == "publish_p50_ms" else 1.0 for spec in SPECS}
    assert in_order(list(reversed(old))) == old


def test_the_page_shows_every_figure_its_goal_and_how_it_was_measured() -> None:
    text = page(results(*every_figure(50)), ["rotation"])
    for spec in SPECS:
        assert f"`{spec.name}`: by counting." in text
        assert spec.title in text
    assert "**no**" in text
    assert "benchmarks/rotation.svg" in text
    assert "benchmarks/memory.svg" not in text


def test_the_machine_is_described_without_its_name() -> None:
    import socket

    assert "CPUs" in machine()
    assert socket.gethostname() not in machine().split()


def test_the_same_results_draw_the_same_plots_and_only_those_with_data(tmp_path: Path) -> None:
    series = {name: Series([0.0, 50.0, 100.0], [1.0, 2.0, 30.0]) for plot in PLOTS for name in plot.needs}
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        write(results(*every_figure()), series, folder)
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert names == {Path("benchmarks.md")} | {Path("benchmarks") / f"{plot.name}.svg" for plot in PLOTS}
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    (tmp_path / "none").mkdir()
    assert draw(results(), {}, tmp_path / "none") == ["goals"]


def test_the_encoding_ends_with_a_line_end() -> None:
    assert encode(results()).endswith(b"}\n")
