"""The demonstration's agent: `kernelsecret-ctl agent` as a child process, whose log says when it is ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping

from kernelsecret.cli.failures import CommandError
from telemetry.logkeys import Event

READY_WITHIN_S = 30.0
STOPS_WITHIN_S = 15.0


class AgentProcess:
    """One agent at a time; `start` it again after it has ended."""

    def __init__(self, flags: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", "kernelsecret.cli.main", "agent"]
        self._command += [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[str] = deque(maxlen=50)
        self._changed = threading.Condition()
        self._ready = False
        self._listener: threading.Thread | None = None

    def start(self) -> float:
        """Start it and wait until it serves; the seconds that took. Raises CommandError with its own last words."""
        began = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KERNELSECRET_")}
        self._ready = False
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the demonstration, which then stops it in order
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._listener.start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self._listening, READY_WITHIN_S)
        if not self._ready:
            raise CommandError(f"the agent does not start: {self._last_words()}")
        return time.monotonic() - began

    def kill(self) -> None:
        """As `kill -9` does. Returns when it is gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> bool:
        """Let it end in order; False where it had to be killed. Idempotent."""
        process = self._process
        if process is None:
            return True
        in_order = True
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            in_order = False
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join()
        self._process = None
        return in_order

    @property
    def _listening(self) -> bool:
        return self._listener is not None and self._listener.is_alive()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._said.append(line.decode(errors="replace").strip())
                if Event.AGENT_READY.value.encode() in line:
                    with self._changed:
                        self._ready = True
                        self._changed.notify_all()
        with self._changed:
            self._listener = None
            self._changed.notify_all()

    def _last_words(self) -> str:
        """The last thing that went wrong, or else the last thing that was said."""
        for line in reversed(self._said):
            try:
                said = json.loads(line)
            except ValueError:
                return line
            if said.get("level") == "error" and "why" in said:
                return f"{said.get('field')}: {said['why']}"
        return self._said[-1] if self._said else "it said nothing"
