"""What is to be done with COMMAND, from options to the supervisor. Pure. Nothing in here is a secret."""

from __future__ import annotations

import signal
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from kernelsecret.problems import quoted
from kernelsecret.quantities import seconds

SHORTEST_POLL_S: Final = 0.1
LONGEST_S: Final = 86_400.0
_SIGNAL: Final = "signal:"
_NEVER: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})


class Status(IntEnum):
    """Exit statuses that are not COMMAND's own; `env` and `timeout` have the same."""

    NOT_STARTED = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127


class Pass(StrEnum):
    """How COMMAND gets a value."""

    MEMFD = "memfd"
    PIPE = "pipe"


class OnChange(StrEnum):
    """What COMMAND meets when a value has changed."""

    NONE = "none"
    SIGNAL = "signal"
    RESTART = "restart"
    EXIT = "exit"


class Change(msgspec.Struct, frozen=True):
    """What to do at a change; `signal` is a number, for SIGNAL only."""

    do: OnChange = OnChange.NONE
    signal: int = 0


class Plan(msgspec.Struct, frozen=True):
    """What the supervisor is told, beside COMMAND."""

    by: Pass
    change: Change
    grace_s: float
    to_group: bool


def change_of(text: str) -> Change:
    """Of `none`, `signal:SIGHUP`, `restart` or `exit`. Raises ValueError that says what would be right."""
    if text.startswith(_SIGNAL):
        return Change(OnChange.SIGNAL, _signal(text.removeprefix(_SIGNAL)))
    if text in (OnChange.NONE, OnChange.RESTART, OnChange.EXIT):
        return Change(OnChange(text))
    raise ValueError(f"{quoted(text)} is not one of none, signal:SIGHUP (or another signal), restart and exit")


def duration(text: str, least_s: float = 0.0) -> float:
    """Seconds of `500ms`, `1s`, `1m30s`. Raises ValueError that says what would be right."""
    found = seconds(text)
    if not least_s <= found <= LONGEST_S:
        raise ValueError(f"{quoted(text)} is not between {least_s:g}s and 24h")
    return found


def _signal(name: str) -> int:
    words = name.upper()
    found = getattr(signal, words if words.startswith("SIG") else f"SIG{words}", None)
    if not isinstance(found, signal.Signals) or found in _NEVER:
        raise ValueError(f"{quoted(name)} is no signal that a program can hear; write one such as SIGHUP or SIGUSR1")
    return int(found)
