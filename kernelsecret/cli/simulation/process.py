"""A program that was started in a container: its output and its end. By pidfd, as pids come again."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. `status` is negative for the number of the signal that killed it."""

    status: int
    stdout: bytes
    stderr: bytes


class Process:
    """A child of this process, by its pid on the host."""

    def __init__(self, pid: int, stdout: IO[bytes], stderr: IO[bytes], stdin: IO[bytes] | None = None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.stdin = stdin
        self._pidfd = os.pidfd_open(pid)
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self._status is None and self._pidfd >= 0:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            self._note(result)
        return self._status

    def wait(self, timeout_s: float = 10.0) -> int:
        """Wait for its end. Raises TimeoutError; it runs on then."""
        if self.poll() is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(int(timeout_s * 1000)):
                raise TimeoutError(f"process {self.pid} has not ended within {timeout_s} s")
            self._note(os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED))
        assert self._status is not None
        return self._status

    def send(self, number: int) -> None:
        """Send a signal; one that has ended is no error."""
        if self._status is None and self._pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def finish(self, timeout_s: float = 10.0) -> Finished:
        """Read all that it writes until it and whoever shares its output have ended. Raises TimeoutError."""
        if self.stdin is not None:
            self.stdin.close()
        found = {self.stdout: bytearray(), self.stderr: bytearray()}
        poll, until = select.poll(), time.monotonic() + timeout_s
        streams = {stream.fileno(): stream for stream in found if not stream.closed}
        for descriptor in streams:
            poll.register(descriptor, select.POLLIN)
        while streams:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the output of process {self.pid} has not ended within {timeout_s} s")
            for descriptor, _ in poll.poll(int(left * 1000) + 1):
                if chunk := os.read(descriptor, 1 << 16):
                    found[streams[descriptor]] += chunk
                else:
                    poll.unregister(descriptor)
                    del streams[descriptor]
        status = self.wait(max(0.0, until - time.monotonic()))
        return Finished(status, bytes(found[self.stdout]), bytes(found[self.stderr]))

    def close(self) -> None:
        """Kill it if it runs, and free what is held. Idempotent."""
        if self._pidfd < 0:
            return
        self.send(signal.SIGKILL)
        self.wait()
        os.close(self._pidfd)
        self._pidfd = -1
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _note(self, result: os.waitid_result | None) -> None:
        if result is not None:
            killed = result.si_code != os.CLD_EXITED
            self._status = -result.si_status if killed else result.si_status
