"""The examples of docs/interceptor.md and docs/examples are what the code takes and makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kernelsecret import json_pointer, templates, validation_sources
from kernelsecret.filters import FILTERS, MAX_LINES
from kernelsecret.interceptor import FileSpec
from kernelsecret.names import ANNOTATION_POLL_INTERVAL
from kernelsecret.shapes import render, shape_of
from kernelsecret.validation import MAX_FILES, read_interceptor

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "interceptor.md").read_text()
SHOWN = PAGE.partition("### What a file shows")[2].partition("## Sources")[0]
EXAMPLES = sorted((DOCS / "examples" / "interceptors").glob("*.yaml"))


def examples() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| `((?:key|template): .*)` \| `(.*)` \|$", SHOWN, re.MULTILINE)
    return [(file.replace(r"\|", "|"), shows) for file, shows in rows]


@pytest.mark.parametrize(("file", "shows"), examples())
def test_a_file_shows_what_the_page_says(file: str, shows: str) -> None:
    values: dict[str, str] = yaml.safe_load(SHOWN.partition("```yaml\n")[2].partition("```")[0])
    encoded = {name: value.encode() for name, value in values.items()}
    written: dict[str, Any] = yaml.safe_load(f"{{{file}}}") if file.startswith("key") else yaml.safe_load(file)
    spec = msgspec.convert(written | {"path": "f"}, FileSpec)
    shape = shape_of(spec)
    made = render(shape, encoded) if shape else encoded[spec.key]
    assert made.decode() == shows.replace("\\n", "\n")


def test_the_page_has_an_example_of_everything_that_a_file_can_show() -> None:
    written = " ".join(file for file, _ in examples())
    assert all(f"| {name}" in written for name in FILTERS)
    assert all(word in written for word in ("jsonPointer", "decode", "template", '"{{"'))


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    for bound in (
        f"at most {json_pointer.MAX_POINTER} bytes and {json_pointer.MAX_STEPS} steps",
        f"at most {templates.MAX_TEMPLATE >> 10} KiB",
        f"at most {templates.MAX_INSERTS} times",
        f"at most {templates.MAX_FILTERS} filters",
        f"at most {MAX_LINES} items",
        f"At most {validation_sources.MAX_PARAMETERS}, of {validation_sources.MAX_PARAMETER} bytes",
        f"At most {MAX_FILES} files",
        f"`{ANNOTATION_POLL_INTERVAL}: 30s`",
    ):
        assert bound in PAGE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_good_interceptor(path: Path) -> None:
    read_interceptor(yaml.safe_load(path.read_text()))


def test_there_is_an_example_of_each_source() -> None:
    read = [read_interceptor(yaml.safe_load(path.read_text())) for path in EXAMPLES]
    sources = [secret.source for one in read for secret in one.spec.secrets]
    assert {kind for source in sources for kind in source.kinds} == {"vault", "kubernetes"}
    paths = " ".join(source.vault.path for source in sources if source.vault)
    assert all(engine in paths for engine in ("secret/data/", "database/creds/", "pki/issue/"))
