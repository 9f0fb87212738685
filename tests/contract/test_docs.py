"""What the pages say is there: links, settings, metrics, files, conditions, answers to pushes and their bounds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent.observe.metric_table
import agent.setting_table
import webhook.observe.metrics
import webhook.options
from agent.observe.conditions import Reason
from kernelsecret import names
from kernelsecret.errors import Code
from webhook.push import board, committing, door
from webhook.push.outcomes import STATUS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
ROOMS = "agent|apiclient|bench|bpf|certs|kernelsecret|manifests|preload|scripts|telemetry|tests|webhook"


def anchors(page: Path) -> set[str]:
    """Those that a forge makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    below = (DOCS / page).read_text().partition(f"## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_setting_and_metric_that_a_page_names_is_there() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    options = {one.variable for one in (*agent.setting_table.OPTIONS, *webhook.options.OPTIONS)}
    in_pods = {names.ENV_SHIM_PATHS, names.ENV_OWN_PRELOAD}
    assert set(re.findall(r"\bKERNELSECRET_\w+", text)) - {"KERNELSECRET_BUILD"} <= options | in_pods
    definitions = (*agent.observe.metric_table.DEFINITIONS, *webhook.observe.metrics.DEFINITIONS)
    assert set(re.findall(r"\bkernelsecret_\w+", text)) <= {one.name for one in definitions}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(rf"`((?:{ROOMS}|docs)/[\w./*-]+)`", page.read_text())
    made = re.compile(r"^agent/(csi/wire|(kernel|preload)/objects|kernel/_libbpf)|^build/")
    bases = (ROOT, ROOT / "tests" / "unit")
    for name in named:
        suffixes = ("", ".py", ".yaml")
        found = any(next(base.glob(name.rstrip("/") + end), None) for base in bases for end in suffixes)
        assert found or made.match(name), name


def test_the_guide_explains_every_condition_and_no_other() -> None:
    named = {
        name
        for row in rows("guide.md", "Conditions and what to do about each")
        for name in re.findall(r"`([\w-]+)`", row[0])
    }
    assert named == {reason.value for reason in Reason}


def test_the_guide_explains_codes_that_there_are() -> None:
    assert {row[0] for row in rows("guide.md", "Errors and what they mean")} <= {code.value for code in Code}


def test_every_answer_to_a_push_has_its_row() -> None:
    assert {(int(row[0]), row[1].strip("`")) for row in rows("push.md", "Answers")} == {
        (status, outcome.value) for outcome, status in STATUS.items()
    }


def test_the_bounds_of_pushes_are_those_of_the_code() -> None:
    bounds = dict(rows("push.md", "Many pushes"))
    burst, rate = door.SENDER
    assert f"{1 / committing.EVERY_S:.0f}".replace("10", "ten") + " times a second" in bounds["one secret"]
    assert f"{1 / committing.LEAST_S:.0f} writes a second" in bounds["the ConfigMap"]
    assert f"{committing.BYTES_PER_S // 1024} KiB a second" in bounds["the ConfigMap"]
    assert f"{board.MOST_NOTICES} notices and {board.MOST_BYTES // 1024} KiB" in bounds["the ConfigMap"]
    assert bounds["one sender"] == f"{burst:,} pushes at once and {rate:,.0f} a second"
    waiting = f"{committing.MOST_WAITING} pushes, {committing.MOST_WAITING_OF_ONE} of the same secrets"
    assert bounds["waiting to be written"] == waiting
    assert bounds["bodies that are read"].startswith(f"{door.READING} at once")


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`((?:[\w]+/)*test_\w+)`", (DOCS / "threat-model.md").read_text()))
    assert len(named) > 20
    assert [name for name in sorted(named) if not any((ROOT / "tests").rglob(f"{name}.py"))] == []
