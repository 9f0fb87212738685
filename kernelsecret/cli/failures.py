"""How commands end: one clear sentence on standard error, and 0, 1 (it went wrong, or was refused) or 2 (usage)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import IntEnum
from typing import NoReturn


class Exit(IntEnum):
    """The exit statuses."""

    OK = 0
    WRONG = 1
    USAGE = 2


class CommandError(Exception):
    """What an operator did or met, in one sentence that says what would mend it."""

    def __init__(self, sentence: str, status: Exit = Exit.WRONG) -> None:
        self.status = status
        super().__init__(sentence)


def say(sentence: str) -> None:
    """A sentence for the operator, beside the output. Where nobody reads that any more, work goes on."""
    with suppress(OSError):
        print(f"kernelsecret-ctl: {sentence}", file=sys.stderr, flush=True)


def need_root(what: str) -> None:
    """Raises CommandError without root."""
    if os.geteuid() != 0:
        raise CommandError(f"{what} needs root: run it with sudo")


def from_os(error: OSError) -> CommandError:
    """What the system refused, with the path that it is about."""
    where = f"{error.filename}: " if error.filename else ""
    return CommandError(f"{where}{error.strerror or error}")


def leave(status: int) -> NoReturn:
    """End at once. Not by sys.exit: a reader that has left the pipe must not become a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
