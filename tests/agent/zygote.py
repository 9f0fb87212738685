"""Forks agents from a process that has imported everything, so that hundreds can be started; tells them when to die.

Its standard input takes a JSON line for each agent: {"env": ..., "log": path, "steps": path, "die_at": n or null}. It
answers with the pid. The agent is the production code as it is: what counts its steps listens where production lets
itself be listened to (`count_with`), and to the interpreter's own audit events of the file system.

A step is one call into the kernel that changes something. SIGUSR1 makes the agent read `die_at` anew from the file
`<steps>.die` and count from there; every step is written to the file `steps`, and the one that `die_at` numbers is its
last: the process kills itself before it (a file operation), or after it (a BPF or a mount call).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from agent.delivery import mounts, shared
from agent.kernel import calls
from agent.service import run
from agent.settings import Settings

WATCHED = frozenset(
    f"os.{name}" for name in ("mkdir", "rmdir", "rename", "remove", "symlink", "truncate", "chmod", "chown", "link")
)
READING = frozenset(("map_lookup", "map_next_key", "ring_drain", "obj_get"))
RETAIN_S = 0.05
"""Generations go soon after a flip, so that dying while one is retired is tried too."""
ARMED = "armed"


class Steps:
    """Counts steps, writes them down, and ends the process at the right one."""

    def __init__(self, path: Path, die_at: int | None) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._order = path.with_suffix(".die")
        self._counting = die_at is not None
        self._die_at = die_at or 0
        self._done = 0

    def arm(self, *_: object) -> None:
        """Begin to count; 0 is never reached."""
        self._die_at, self._done, self._counting = int(self._order.read_text()), 0, True
        os.write(self._fd, f"{ARMED}\n".encode())

    def step(self, kind: str) -> None:
        """One step."""
        if not self._counting:
            return
        self._done += 1
        os.write(self._fd, f"{kind}\n".encode())
        if self._done == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def listen(self) -> None:
        """From now on."""
        signal.signal(signal.SIGUSR1, self.arm)
        sys.addaudithook(lambda event, arguments: self.step(event) if event in WATCHED else None)
        for room in (calls, mounts):
            room.count_with = self._beside(room.count_with)  # type: ignore[attr-defined]

    def _beside(self, count_with: Callable[[calls.Count], None]) -> Callable[[calls.Count], None]:
        def listen_too(count: calls.Count) -> None:
            def both(call: str, number: int) -> None:
                count(call, number)
                if call not in READING:
                    self.step(call)

            count_with(both)

        return listen_too


def agent(order: dict[str, object]) -> int:
    """The forked process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    die_at = order["die_at"]
    steps = Steps(Path(str(order["steps"])), die_at if isinstance(die_at, int) else None)
    steps.listen()
    shared.RETAIN_S = RETAIN_S
    env = order["env"]
    assert isinstance(env, dict)
    return run(Settings.load(env))


def main() -> None:
    """Fork until standard input ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = agent(json.loads(line))
            finally:
                os._exit(status)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
