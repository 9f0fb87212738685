"""The section "Programs" of docs/preload.md, made of the rows that the test holds:
`python -m tests.agent.preload.programs_page`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.agent.preload.rows import ROWS

PAGE: Final = Path(__file__).parents[3] / "docs" / "preload.md"
TITLE: Final = "## Programs\n"
SECTION: Final = re.compile(r"^## Programs\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)

HEAD: Final = """
Each program ran in a container of the mode `preload` on a node with a real agent, all side by side, while the secret
rotated up to fifty times a second (`tests/agent/preload/test_programs.py`; for a minute by `make bench`). Every read
gave exactly one whole version, never one older than the read before it, whichever way either went, and none failed. So
what is held open is as new as what is opened anew. The prefix is a folder that the image has not: there the file is by
the shim alone. A `subPath` mount of the file shows its first version for ever; under the shim it, too, is read as it is
now. These are Debian 12's versions.

| program | opens the file anew | goes back to the start of one that is open | by the prefix | by `subPath` | remarks |
|---|---|---|---|---|---|
"""

TAIL: Final = """
nginx opens a file twice, for certificate and for key. Where a rotation comes between the two, it refuses the reload and
goes on with the pair that it has; the reload after the last rotation always takes the new pair.

Node's `fs.realpathSync.native` and Java's `toRealPath` are among the calls that know no prefix.
"""


def section() -> str:
    """All of it, with its title."""
    return TITLE + HEAD + "".join(f"{row.line()}\n" for row in ROWS) + TAIL


def found(page: str) -> str:
    """The section as a page has it; empty where it has none."""
    match = SECTION.search(page)
    return match[0].rstrip("\n") + "\n" if match else ""


def with_section(page: str) -> str:
    """The page with this section in the place of its own, or at its end."""
    new = section()
    if not found(page):
        return page.rstrip("\n") + "\n\n" + new
    return SECTION.sub(lambda match: new + ("\n" if match.end() < len(page) else ""), page)


if __name__ == "__main__":
    PAGE.write_text(with_section(PAGE.read_text()))
