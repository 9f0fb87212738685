"""One process of the tests: started with its own log, waited for, ended; and only ever by its own handle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

STOP_WITHIN_S: Final = 30.0
TAIL_BYTES: Final = 4000


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many ports, none of them twice."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


class Process:
    """A running program. Its output goes to `log`, which may be read at any time.

    With `own_group` a Ctrl-C at the terminal does not reach it, so that it ends by `stop`, in order.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        own_group: bool = False,
    ) -> None:
        self.name = Path(command[0]).name
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else dict(environment),
                process_group=0 if own_group else None,
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        """Whether it runs; AssertionError with the end of its log where it ended by itself."""
        assert self._process.poll() is None, f"{self.name} ended with {self._process.returncode}\n{self.tail()}"
        return True

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def said(self) -> str:
        """What this process has written."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """The end of its log, for a failure."""
        return f"--- {self.name}, the end of its log:\n{self.said()[-TAIL_BYTES:]}"

    def pause(self) -> None:
        """Stop it from running, as a machine that hangs."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one run on."""
        self._process.send_signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send it a signal; does not wait."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end; does not wait."""
        self._process.terminate()

    def wait(self, within_s: float = STOP_WITHIN_S) -> int:
        """Wait for its end; the exit status. AssertionError with the log where it does not end in time."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end\n{self.tail()}") from None

    def kill(self) -> None:
        """kill -9, and wait."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it in order, and by force where it does not; nothing to do for one that has ended."""
        if self.ended:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def resident_mb(self) -> float:
        """Resident memory, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
