"""The real agent as a child process: started, waited for by its own log, asked by its own doors, killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROGRAM = """
import os, sys
from agent.service import run
from agent.settings import Settings
sys.exit(run(Settings.load(os.environ)))
"""
READY, PROBED = "agent ready", "engine probed"
START_LIMIT_S = 60.0


class AgentFailed(RuntimeError):
    """The agent did not come up; the text has the end of its log."""


class AgentProcess:
    """One life of the agent. Its log is read as it comes, so that the pipe never fills."""

    def __init__(self, environment: Mapping[str, str], launch: Sequence[str] = ()) -> None:
        """`launch` goes before the command line: what puts the agent into its cgroup."""
        self.started_ns = time.time_ns()
        self._process = subprocess.Popen(
            [*launch, sys.executable, "-c", PROGRAM],
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._seen: dict[str, int] = {}
        self._tail: deque[str] = deque(maxlen=20)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Raises AgentFailed where it ends first, or is not ready in a minute."""
        if not self._ready.wait(START_LIMIT_S) or READY not in self._seen:
            self.kill()
            raise AgentFailed("the agent is not ready:\n" + "\n".join(self._tail))

    def at_ns(self, event: str) -> int:
        """CLOCK_REALTIME ns of the first line with this event, by the line's own time."""
        return self._seen[event]

    def rss_mb(self) -> tuple[float, float]:
        """Resident memory now and at its highest, in MB of 10^6 bytes."""
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        now, highest = (int(status[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
        return now, highest

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Idempotent."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end. Idempotent."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stderr:
            self._process.stderr.close()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line.rstrip())
            try:
                entry = json.loads(line)
                self._seen.setdefault(entry["event"], _ns(entry["time"]))
            except (ValueError, KeyError, TypeError):
                continue
            if entry["event"] == READY:
                self._ready.set()
        self._ready.set()


def _ns(text: str) -> int:
    """RFC 3339 with nanoseconds, which datetime cannot hold."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def status_of(admin_socket: Path) -> dict[str, Any]:
    """The agent's own status document."""
    connection = _Unix(admin_socket)
    try:
        connection.request("GET", "/status")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()
