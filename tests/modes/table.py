"""What each way of delivery can and cannot do: the table of docs/modes.md. Each cell is met by a test, as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """The table of what is met, as docs/modes.md has it."""
    return _table(("", *Way), *((row.text, *row.cells) for row in ROWS))


def _table(heads: Sequence[str], *rows: Sequence[str]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ("---",) * len(heads), *rows))


class Cost(NamedTuple):
    """A property that is measured: names of figures of bench/results.json, "" where there is nothing to pay."""

    text: str
    figures: tuple[str, str, str, str]


COSTS: Final = (
    Cost(
        "change of a folder to the first new byte, median",
        ("rotation_1_p50_ms", "mode_tmpfs_p50_ms", "mode_preload_p50_ms", ""),
    ),
    Cost("the same, p99", ("rotation_1_p99_ms", "mode_tmpfs_p99_ms", "mode_preload_p99_ms", "")),
    Cost(
        "change in Vault, looked at every second, median",
        ("vault_poll_p50_ms", "vault_poll_p50_ms", "vault_poll_p50_ms", "vault_agent_fastest_p50_ms"),
    ),
    Cost(
        "kernel memory of a pod with four files of 1 KB",
        ("kernel_kb_per_pod", "mode_tmpfs_kb_per_pod", "mode_tmpfs_kb_per_pod", ""),
    ),
    Cost("memory of each process of the application", ("", "", "mode_preload_kb_per_process", "")),
    Cost("memory of each pod's own agent", ("", "", "", "vault_agent_rss_mb")),
)


def costs(measured: Mapping[str, str]) -> str:
    """The table of what is measured: value and unit by figure."""
    rows = ((cost.text, *(measured[name] if name else "—" for name in cost.figures)) for cost in COSTS)
    return _table(("", *Way), *rows)
