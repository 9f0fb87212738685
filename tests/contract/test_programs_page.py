"""docs/preload.md says what the programs that were run under the shim did."""

from __future__ import annotations

from tests.agent.preload.programs_page import PAGE, found, section, with_section
from tests.agent.preload.rows import ROWS

PROMISED = ("python", "node", "java", "nginx", "curl", "psql", "musl", "busybox")


def test_the_section_of_programs_is_that_of_the_tests() -> None:
    assert found(PAGE.read_text()) == section(), "run: python -m tests.agent.preload.programs_page"


def test_a_section_goes_where_it_was() -> None:
    page = "# Page\n\n## Programs\n\nold\n\n## After\n\ntext\n"
    made = with_section(page)
    assert made == f"# Page\n\n{section()}\n## After\n\ntext\n"
    assert with_section(made) == made
    assert with_section("# Page\n") == f"# Page\n\n{section()}"


def test_every_promised_program_is_run() -> None:
    assert {row.program for row in ROWS} == set(PROMISED)


def test_the_page_says_which_program_is_not_affected() -> None:
    unaffected = [row for row in ROWS if not row.has_shim]
    assert unaffected
    assert all("**not affected**" in row.remark for row in unaffected)
