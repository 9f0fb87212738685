"""docs/modes.md says what the tests meet and what was measured, and its column heads are the same everywhere."""

from __future__ import annotations

from pathlib import Path

from bench.results import RESULTS, load
from tests.modes import table

PAGE = Path(__file__).parents[2] / "docs" / "modes.md"


def test_the_table_is_what_the_tests_meet() -> None:
    assert table.page() in PAGE.read_text(), f"the page must have:\n{table.page()}"


def test_the_costs_are_those_that_were_measured() -> None:
    measured = {one.name: f"{one.value:g} {one.unit}" for one in load(RESULTS).figures}
    wanted = table.costs(measured)
    assert wanted in PAGE.read_text(), f"the page must have:\n{wanted}"
