"""Signals of the supervisor: all that can be forwarded arrive as numbers on a descriptor, and COMMAND gets them as they
were when we were started: the mask, and what was ignored."""

from __future__ import annotations

import os
import signal
from typing import Final

_OWN: Final = frozenset(
    {
        signal.SIGKILL,
        signal.SIGSTOP,
        # The terminal's, about what we do with it; they stay blocked.
        signal.SIGTTIN,
        signal.SIGTTOU,
        # Of a fault of our own.
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGABRT,
        signal.SIGSYS,
        # Python's own: a write into a pipe that nobody reads is an error to us, no signal.
        signal.SIGPIPE,
        signal.SIGXFSZ,
    }
)
_OF_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_READ: Final = 512


class Signals:
    """Made once, at the start of the process, before anything else can be interrupted."""

    def __init__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
        self.fd, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._heard = tuple(sorted(signal.valid_signals() - _OWN))
        self._ignored = tuple(
            number for number in self._heard if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGCHLD
        )
        for number in self._heard:
            signal.signal(number, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._heard)

    def read(self) -> list[int]:
        """What has arrived since the last call. SIGCHLD is among it."""
        try:
            return list(os.read(self.fd, _READ))
        except BlockingIOError:
            return []

    def block(self) -> None:
        """Before a fork: what arrives belongs to one of the two, and is not lost."""
        signal.pthread_sigmask(signal.SIG_BLOCK, self._heard)

    def unblock(self) -> None:
        """After it, in the supervisor."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._heard)

    def restore(self) -> None:
        """After it, in what becomes COMMAND, and last of all: what has arrived for it acts from here on."""
        signal.set_wakeup_fd(-1)
        for number in (*self._heard, *_OF_PYTHON):
            signal.signal(number, signal.SIG_IGN if number in self._ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
