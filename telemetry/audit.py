"""The audit log: one JSON line for each record, appended to a file that only root can read.

A line is one `write` on an O_APPEND descriptor, so lines of two agents during an upgrade never mix. Nothing is synced
to the disk for each line: an audit trail that must survive the node's loss is shipped off it by whatever collects
logs. The audit log never stops the agent: where it cannot be written, that is counted and logged, and secrets go on
being served.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

MODE = 0o600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

log = get_logger("observe")


class AuditLog:
    """Writes records to `path`, or to standard output when it is None. Use it from one thread.

    The constructor raises Refused, which names `setting`, where the file cannot be had; afterwards `write` never
    raises for I/O but tells `on_failure` each time, and `on_recovery` when a line could be written again.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        setting: str = "KERNELSECRET_AUDIT_LOG",
        on_failure: Callable[[], None] = lambda: None,
        on_recovery: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._on_failure = on_failure
        self._on_recovery = on_recovery
        self._failing = False
        self._torn = False
        self._descriptor: int | None = None
        try:
            self._descriptor = self._open()
        except OSError as problem_:
            raise Refused(
                Code.FAILED_PRECONDITION,
                setting,
                f"{path} cannot be opened ({errno.errorcode.get(problem_.errno or 0, 'unknown')})",
                "name a regular file in a folder that only root can write, or - for standard output",
            ) from None

    def write(self, line: bytes) -> None:
        """Append records, each encoded as one JSON line with its newline. What the disk does is counted, not raised."""
        try:
            if self._descriptor is None or self._was_moved():
                self._replace()
            assert self._descriptor is not None
            # After a line that a full disk cut short, begin afresh, or two records would share a line.
            written = os.write(self._descriptor, b"\n" + line if self._torn else line)
            self._torn = written < len(line)
            if self._torn:
                raise OSError(errno.ENOSPC, "short write")
        except OSError as problem_:
            self._on_failure()
            if not self._failing:
                log.error(Event.AUDIT_FAILED, **problem(problem_))
            self._failing = True
        else:
            if self._failing:
                log.info(Event.AUDIT_RECOVERED)
                self._on_recovery()
            self._failing = False

    def reopen(self) -> None:
        """Open the path anew (after SIGHUP).

        Where that fails, the old file is written on, and the failure is counted.
        """
        try:
            self._replace()
        except OSError as problem_:
            self._on_failure()
            log.error(Event.AUDIT_FAILED, **problem(problem_))

    def close(self) -> None:
        """Close the file; a later write opens it again. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _was_moved(self) -> bool:
        """Whether a log rotation moved the file away: nobody has to send SIGHUP for that."""
        if self._path is None or self._descriptor is None:
            return False
        try:
            now = self._path.lstat()
        except FileNotFoundError:
            return True
        ours = os.fstat(self._descriptor)
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)

    def _replace(self) -> None:
        descriptor = self._open()
        self.close()
        self._descriptor = descriptor
        self._torn = False

    def _open(self) -> int:
        if self._path is None:
            return os.dup(1)
        descriptor = os.open(self._path, _FLAGS, MODE)
        try:
            found = os.fstat(descriptor)
            # A fifo or a device would block the agent, a foreign owner could read or cut the trail.
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "not a regular file of ours")
            if stat.S_IMODE(found.st_mode) != MODE:
                os.fchmod(descriptor, MODE)
            os.set_blocking(descriptor, True)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor
