"""What the demonstration calls good, and the one object that it prints."""

from __future__ import annotations

import io

from rich.console import Console

from kernelsecret.cli.demo.figures import ROTATIONS, THEFTS, Figures
from kernelsecret.cli.demo.screen import Screen


def good(engine: str = "iter") -> Figures:
    refused = dict.fromkeys(THEFTS, engine == "iter")
    latencies = [float(number) for number in range(1, ROTATIONS + 1)]
    return Figures(engine=engine, latencies_ms=latencies, reads=100, agent_killed=True, back_ms=1.0, refused=refused)


def test_the_object_has_exactly_these_fields() -> None:
    assert good().as_object() == {
        "engine": "iter",
        "rotations": 10,
        "p50_ms": 5.5,
        "p99_ms": 10.0,
        "reads": 100,
        "failed_reads": 0,
        "restarts": 0,
        "agent_killed": True,
        "refused": {"other_pod": True, "entered_shell": True, "orphan": True, "spawned_shell": True},
    }


def test_all_that_must_be_is_not_wrong() -> None:
    assert good().wrong() == []


def test_refusals_that_the_engine_cannot_give_are_false_and_not_wrong() -> None:
    figures = good("tmpfs")
    assert figures.wrong() == []
    assert not any(figures.as_object()["refused"].values())


def test_each_thief_that_got_through_is_wrong() -> None:
    for name, who in THEFTS.items():
        figures = good()
        figures.refused[name] = False
        assert figures.wrong() == [f"not refused: {who}"]


def test_failed_mixed_and_missing_reads_are_wrong() -> None:
    figures = good()
    figures.failed_reads, figures.mixed_reads, figures.restarts = 1, 2, 1
    figures.latencies_ms.pop()
    assert len(figures.wrong()) == 4


def test_a_performance_that_broke_off_says_only_why() -> None:
    figures = Figures(engine="iter", problems=["the agent does not start"])
    assert figures.wrong() == ["the agent does not start"]
    assert figures.p50_ms is None
    assert figures.p99_ms is None


def test_the_closing_table_fits_a_terminal_and_says_what_was_not_shown() -> None:
    for engine in ("iter", "tmpfs"):
        text = io.StringIO()
        Screen(Console(file=text, width=80)).close(good(engine))
        assert max(map(len, text.getvalue().splitlines())) <= 80
        assert ("Not shown here" in text.getvalue()) == (engine == "tmpfs")
        assert "Everything was removed again." in text.getvalue()
