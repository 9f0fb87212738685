"""docs/kubernetes.md says what the source does: its example is valid, its kinds of errors are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from agent.kube.event_book import EventReason
from agent.sources.keys import MAX_KEYS
from agent.sources.kubernetes import tracker
from agent.sources.kubernetes.place import Kind
from agent.sources.kubernetes.shared import MOST_WATCHES
from kernelsecret.validation import read_interceptor

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "kubernetes.md").read_text()


def test_the_example_is_an_interceptor_that_would_be_taken() -> None:
    block = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    read = read_interceptor(yaml.safe_load(block[1]))
    assert read.spec.secrets[0].source.kinds == ("kubernetes",)


def test_every_kind_of_error_has_its_row() -> None:
    rows = [line for line in PAGE.partition("## What each error means")[2].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert named == {kind.value for kind in Kind}


def test_numbers_and_names_are_those_of_the_code() -> None:
    assert f"At one node {MOST_WATCHES} Secrets are watched" in PAGE
    assert f"more than {MAX_KEYS}," in PAGE
    assert f"at most {1 / tracker.SPACING_S:g} times a second" in PAGE
    for reason in (EventReason.SOURCE_DOWN, EventReason.ROTATION_FAILED, EventReason.POLLED):
        assert f"`{reason.value}`" in PAGE


def test_what_the_page_leads_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (DOCS / target).is_file(), target
