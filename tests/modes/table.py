"""What each way of delivery can and cannot do: the table of docs/modes.md. Each cell is met by a test, as it stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Way(StrEnum):
    """The columns: a mode, and the engine behind it where there are several."""

    ITER = "`ebpf` by `iter`"
    TMPFS = "`ebpf` by `tmpfs`"
    PRELOAD = "`preload`"
    VAULT_AGENT = "`vault-agent`"


class Row(NamedTuple):
    """A property, how a test asks for it, and what is met in each column of `Way`."""

    text: str
    question: str
    cells: tuple[str, str, str, str]


ROWS: Final = (
    Row("a shell that `kubectl exec` starts", "entered", ("refused", "reads", "reads", "reads")),
    Row("a static program", "static", ("reads", "reads", "reads", "reads")),
    Row("names with dots", "dots", ("yes", "yes", "yes", "yes")),
    Row("size by `stat`", "size", ("true", "true", "true", "true")),
    Row("`lseek`", "seek", ("`ESPIPE`", "works", "works", "works")),
    Row("`pread` at an offset", "pread", ("wrong", "works", "works", "works")),
    Row("`mmap`", "map", ("`ENODEV`", "works", "works", "works")),
    Row("`sendfile`", "sendfile", ("`EINVAL`", "works", "works", "works")),
    Row("opened again after a rotation", "again", ("the new value",) * 4),
    Row(
        "held open, then rewound after a rotation",
        "held",
        ("`ESPIPE`", "the old value", "the new value", "the old value"),
    ),
    Row("inotify on the file", "file_events", ("`IN_MODIFY`", "`IN_ATTRIB`", "`IN_ATTRIB`", "`IN_ATTRIB`")),
    Row("inotify on the folder", "folder_events", ("`IN_MOVED_TO`",) * 4),
)


def page() -> str:
    """The table, as docs/modes.md has it."""
    heads = ("", *Way)
    lines = [heads, ("---",) * len(heads), *((row.text, *row.cells) for row in ROWS)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
