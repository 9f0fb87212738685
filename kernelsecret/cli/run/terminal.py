"""The terminal, lent to COMMAND's process group and taken back: as a shell does with a job.

Where our output goes into a pipe, who reads that may want the terminal (a pager): then COMMAND gets it once it asks.
"""

from __future__ import annotations

import os
import signal
import stat
from contextlib import suppress


class Terminal:
    """The controlling terminal, where there is one. SIGTTOU must be blocked in this process."""

    def __init__(self) -> None:
        self._fd = _opened()
        self._ours = os.getpgrp()
        self._lent = 0

    @property
    def fd(self) -> int | None:
        """To lend it from the process that gets it: that one must have it before it runs. None where it is not ours, or
        COMMAND has to ask for it."""
        return self._fd if self._foreground() == self._ours and not _is_pipe(1) else None

    def lent(self, group: int) -> None:
        """A group of COMMAND's has it, or had to get it."""
        self._lent = group

    def take_back(self) -> None:
        """COMMAND has ended: who started us goes on reading from it. Idempotent."""
        if self._lent and self._foreground() == self._lent:
            self._give(self._ours)
        self._lent = 0

    def stopped(self, group: int, number: int) -> None:
        """COMMAND was stopped by it: so are we, that the shell which started us knows. Returns when we are continued,
        or at once where there is no such shell; COMMAND is continued, in the foreground where that is ours now.

        Who was stopped because it needs the terminal, and that is ours, gets it."""
        if self._fd is None:
            return  # COMMAND has stopped itself, and nobody but who continues it is concerned
        if number == signal.SIGTSTP or self._foreground() != self._ours:
            self._stop_ourselves()
        if self._foreground() == self._ours:
            self._give(group)
            self._lent = group
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)

    def _stop_ourselves(self) -> None:
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            os.killpg(self._ours, signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, handler)

    def _foreground(self) -> int | None:
        if self._fd is None:
            return None
        with suppress(OSError):
            return os.tcgetpgrp(self._fd)
        return None

    def _give(self, group: int) -> None:
        if self._fd is not None:
            with suppress(OSError):  # it hung up, or the group has ended
                os.tcsetpgrp(self._fd, group)


def _is_pipe(fd: int) -> bool:
    with suppress(OSError):  # closed
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    return False


def _opened() -> int | None:
    with suppress(OSError):
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    return None
