"""The terminal, handed to COMMAND's process group and taken back: as a shell does with a job."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Terminal:
    """The controlling terminal, where there is one. SIGTTOU must be blocked in this process."""

    def __init__(self) -> None:
        self._fd = _opened()
        self._ours = os.getpgrp()
        self._lent = 0

    @property
    def fd(self) -> int | None:
        """To lend it from the process that gets it: that one must have it before it runs. None where it is not ours."""
        return self._fd if self._foreground() == self._ours else None

    def lent(self, group: int) -> None:
        """A group of COMMAND's has it, or had to get it."""
        self._lent = group

    def take_back(self) -> None:
        """COMMAND has ended: who started us goes on reading from it. Idempotent."""
        if self._lent and self._foreground() == self._lent:
            self._give(self._ours)
        self._lent = 0

    def stop(self, group: int) -> None:
        """COMMAND was stopped by it: so are we, that the shell which started us knows. Returns when we are continued,
        or at once where there is no such shell; COMMAND is continued, in the foreground where that is ours now."""
        if self._fd is None:
            return  # COMMAND has stopped itself, and nobody but who continues it is concerned
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            os.killpg(self._ours, signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, handler)
        if self._foreground() == self._ours:
            self._give(group)
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)

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


def _opened() -> int | None:
    with suppress(OSError):
        return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    return None
