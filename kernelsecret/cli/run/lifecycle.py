"""What the supervisor does next: what happens comes in, what to do comes out. Pure; no clock, no process.

A command that is to end gets SIGTERM, then time, then SIGKILL. Who asks for its end meanwhile (SIGTERM, SIGINT,
SIGQUIT) gets it: what would have been a restart ends.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import Final

from kernelsecret.cli.run.plan import Change, OnChange

ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
FROM_TERMINAL: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
"""Stops that a terminal makes: the shell that started us is to know of them."""


class Do(Enum):
    """Something to do."""

    START = "start"
    SIGNAL = "signal"
    """Send `number` to COMMAND: to its group where that is asked for."""
    SIGNAL_ALL = "signal-all"
    """Send `number` to COMMAND's group."""
    AWAIT = "await"
    """Say `grace_over` after the grace."""
    STOP = "stop"
    """The terminal has stopped COMMAND by `number`: stop with it, or lend it the terminal."""
    EXIT = "exit"
    """End with the status `number`."""


@dataclass(frozen=True, slots=True)
class Step:
    """`number` is a signal or a status."""

    do: Do
    number: int = 0


class _State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    RESTARTING = "restarting"
    ENDING = "ending"


class Lifecycle:
    """One supervisor's."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._state = _State.WAITING

    @property
    def is_waiting(self) -> bool:
        """Whether COMMAND has not been started yet."""
        return self._state is _State.WAITING

    def resolved(self) -> list[Step]:
        """All values are there for the first time."""
        return self._start()

    def changed(self) -> list[Step]:
        """Values have changed, and whoever opens them sees the new ones."""
        if self._state is not _State.RUNNING:
            return []  # a restart that is under way brings them
        match self._change.do:
            case OnChange.NONE:
                return []
            case OnChange.SIGNAL:
                return [Step(Do.SIGNAL, self._change.signal)]
            case OnChange.RESTART:
                return self._end(_State.RESTARTING)
            case OnChange.EXIT:
                return self._end(_State.ENDING)

    def signalled(self, number: int) -> list[Step]:
        """Somebody signalled us."""
        if self._state is _State.WAITING:
            return [Step(Do.EXIT, 128 + number)] if number in ENDING | {signal.SIGHUP} else []
        if number in ENDING and self._state is _State.RESTARTING:
            self._state = _State.ENDING
        return [Step(Do.SIGNAL, number)]

    def stopped(self, number: int) -> list[Step]:
        """COMMAND was stopped by a signal."""
        return [Step(Do.STOP, number)] if number in FROM_TERMINAL else []

    def ended(self, status: int) -> list[Step]:
        """COMMAND has ended with the status (128 and the signal's number, where one killed it)."""
        return self._start() if self._state is _State.RESTARTING else [Step(Do.EXIT, status)]

    def grace_over(self) -> list[Step]:
        """The time has passed that COMMAND had to end in."""
        return [Step(Do.SIGNAL_ALL, signal.SIGKILL)] if self._state in (_State.RESTARTING, _State.ENDING) else []

    def _start(self) -> list[Step]:
        self._state = _State.RUNNING
        return [Step(Do.START)]

    def _end(self, state: _State) -> list[Step]:
        self._state = state
        return [Step(Do.SIGNAL, signal.SIGTERM), Step(Do.SIGNAL, signal.SIGCONT), Step(Do.AWAIT)]
