"""The tests' end of actors: each task of a pod, or of the node, at the other end of a socket."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTOR = Path(__file__).with_name("actor.py")
PYTHON = os.path.realpath(sys.executable)
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Read:
    """What a reader got: its bytes, the errno that ended it (0: the end of the file), and in how many reads."""

    data: bytes
    errno: int = 0
    reads: int = 0


class Actor:
    """One task. Its functions are those of actor.py; what fails with an errno raises OSError here."""

    def __init__(self, family: Family, connection: socket.socket) -> None:
        self._family = family
        self._connection = connection
        self._lines = connection.makefile("r")
        hello = json.loads(self._lines.readline())
        self.label: str = hello["label"]
        self.inner_pid: int = hello["pid"]
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid: int = struct.unpack("3i", credentials)[0]
        self.pidfd = os.pidfd_open(self.pid)

    def begin(self, name: str, *args: Any) -> None:
        """Ask for something without waiting for the answer."""
        self._connection.sendall(json.dumps([name, args]).encode() + b"\n")

    def answer(self) -> Any:
        """The answer to what was begun."""
        line = self._lines.readline()
        if not line:
            raise EOFError(f"{self.label} is gone")
        answer = json.loads(line)
        if "problem" in answer:
            raise AssertionError(f"{self.label}: {answer['problem']}")
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["result"]

    def __call__(self, name: str, *args: Any) -> Any:
        self.begin(name, *args)
        return self.answer()

    def read(self, path: str, size: int = 1 << 20) -> Read:
        """Open, read to the end, close; an open that fails counts as a read that does."""
        try:
            found = self("read", path, size)
        except OSError as error:
            return Read(b"", error.errno or 0)
        return Read(bytes.fromhex(found["data"]), found["errno"], found["reads"])

    def open(self, path: str) -> int:
        """A descriptor of the actor's."""
        return int(self("attempt", "open", path, os.O_RDONLY))

    def read_fd(self, fd: int, size: int = 1 << 20, most: int = 0) -> Read:
        """Read on from a descriptor: to the end, or `most` reads."""
        found = self("read_fd", fd, size, most)
        return Read(bytes.fromhex(found["data"]), found["errno"], found["reads"])

    def run(self, *argv: str) -> tuple[int, bytes, str]:
        """A child that executes a program: exit status, output, complaints."""
        done = self("run", list(argv))
        return done["code"], bytes.fromhex(done["out"]), done["err"]

    def run_on_stdin(self, *argv: str) -> tuple[int, bytes, str]:
        """As `run`, with the actor's own standard input."""
        done = self("run", list(argv), True)
        return done["code"], bytes.fromhex(done["out"]), done["err"]

    def spawn(self) -> Actor:
        """A forked child."""
        self("spawn")
        return self._family.welcome()

    def orphan(self) -> Actor:
        """A grandchild whose parent has ended."""
        self("orphan")
        return self._family.welcome()

    def spawn_into(self, cgroup: Path) -> Actor:
        """A child that was cloned into another cgroup."""
        self("spawn_into", str(cgroup))
        return self._family.welcome()

    def spawn_as(self, *pids: int) -> Actor:
        """A child with these pids, innermost namespace first; they must be free."""
        self("spawn_as", list(pids))
        return self._family.welcome()

    def thread(self) -> Actor:
        """A thread of this task."""
        self("start_thread")
        return self._family.welcome()

    def execute(self, *prefix: str, label: str = "executed") -> Actor:
        """This task as another program: an actor again, started by `prefix` (a loader, a script) where given."""
        self.begin("execute", [*prefix, *self._family.argv(label)])
        self._connection.close()
        return self._family.welcome()

    def give(self, fd: int, to: Actor) -> int:
        """Pass a descriptor to another actor by SCM_RIGHTS; its number there."""
        address = f"kernelsecret-test-{secrets.token_hex(8)}"
        door = to("listen", address)
        self("give", address, fd)
        return int(to("take", door))

    def reap(self, child: Actor) -> None:
        """End a child and take its exit status, so that its pid is free."""
        child.kill()
        self("attempt", "waitpid", child.inner_pid, 0)

    def kill(self) -> None:
        """End the process."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def is_gone(self) -> bool:
        """The process has ended and its end of the socket is closed."""
        return self._lines.readline() == ""

    def close(self) -> None:
        """Kill the process and let go of it."""
        self.kill()
        os.close(self.pidfd)
        self._lines.close()
        self._connection.close()


class Family:
    """Every actor of a test. Whoever starts one gets it by `welcome`."""

    def __init__(self) -> None:
        self.address = f"kernelsecret-test-{secrets.token_hex(8)}"
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind("\0" + self.address)
        self._door.listen(64)
        self._door.settimeout(PATIENCE_S)
        self._actors: list[Actor] = []
        self._launched: list[subprocess.Popen[bytes]] = []

    def argv(self, label: str) -> list[str]:
        """The command of an actor."""
        return [PYTHON, "-I", "-S", str(ACTOR), self.address, label]

    def welcome(self) -> Actor:
        """The next actor that connects."""
        connection, _ = self._door.accept()
        connection.settimeout(PATIENCE_S)
        actor = Actor(self, connection)
        self._actors.append(actor)
        return actor

    def launch(self, argv: list[str]) -> Actor:
        """Start an actor as a process of the node."""
        self._launched.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL))
        return self.welcome()

    def close(self) -> None:
        """End every actor."""
        for actor in self._actors:
            actor.close()
        for process in self._launched:
            process.wait(timeout=PATIENCE_S)
        self._door.close()
