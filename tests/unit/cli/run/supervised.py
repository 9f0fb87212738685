"""A real supervisor over a real COMMAND, with the test in the resolver's place; and what a COMMAND says, waited for."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from kernelsecret.cli.run.channel import Values, heard, pair, send
from kernelsecret.cli.run.plan import Change, Pass, Plan
from kernelsecret.cli.run.sealed import Sealed

BOUND_S = 20.0
READY = "ready"


class Said:
    """Lines of a descriptor, each waited for with a bound."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.text = ""
        self._rest = b""

    def line(self, within_s: float = BOUND_S) -> str:
        """The next line, without its end; EOFError where no more comes."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._rest:
            self._more(deadline)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode().rstrip("\r")

    def until(self, word: str, within_s: float = BOUND_S) -> str:
        """Everything up to and with this word, wherever lines end."""
        deadline = time.monotonic() + within_s
        while word.encode() not in self._rest:
            self._more(deadline)
        before, _, self._rest = self._rest.partition(word.encode())
        return before.decode() + word

    def _more(self, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.fd, selectors.EVENT_READ)
            assert selector.select(max(0.0, deadline - time.monotonic())), f"nothing more came after {self.text!r}"
        try:
            piece = os.read(self.fd, 65536)
        except OSError:  # a terminal that nobody has open any more
            piece = b""
        if not piece:
            raise EOFError(self.text)
        self._rest += piece
        self.text += piece.decode(errors="replace")


class Supervised:
    """One supervisor. Ended with the block of `supervised`."""

    def __init__(self, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        assert process.stdout is not None
        self.process, self.end = process, end
        self.says = Said(process.stdout.fileno())
        self._number = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def show(self, **values: bytes) -> Self:
        """New values of these names, in one message."""
        sealed = [Sealed(value) for value in values.values()]
        self._number += 1
        send(self.end, Values(self._number, tuple(values)), tuple(one.fd for one in sealed))
        for one in sealed:
            one.close()
        return self

    def started(self) -> int:
        """Wait until it says that COMMAND runs with the values up to this message."""
        self.end.settimeout(BOUND_S)
        number = heard(self.end)
        assert number is not None
        return number

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def status(self, within_s: float = BOUND_S) -> int:
        """Let go of it as a resolver that has nothing to revoke, and wait for its end."""
        self.end.settimeout(within_s)
        while heard(self.end) is not None:
            pass
        self.end.close()
        return self.process.wait(within_s)


@contextmanager
def supervised(
    command: Sequence[str | Path],
    *,
    by: Pass = Pass.MEMFD,
    change: Change | None = None,
    grace_s: float = 10.0,
    to_group: bool = False,
    environment: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    stdin: int = subprocess.DEVNULL,
    stderr: int | None = None,
    preexec_fn: Callable[[], None] | None = None,
) -> Iterator[Supervised]:
    """A supervisor that waits for the first values."""
    ours, theirs = pair()
    given = {"PATH": os.environ["PATH"]} if environment is None else environment
    module = ["-P", "-m", "kernelsecret.cli.run.supervise", str(theirs.fileno())]
    program = [*prefix, sys.executable, *module, "--", *command]
    with theirs:
        process = subprocess.Popen(
            program,
            env=given,
            pass_fds=[theirs.fileno()],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            preexec_fn=preexec_fn,
        )
    try:
        send(ours, Plan(by, change or Change(), grace_s, to_group))
        yield Supervised(process, ours)
    finally:
        ours.close()
        ended(process)


def ended(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has begun, whatever the test did."""
    for child in children(process.pid):
        _kill(child)
    if process.poll() is None:
        process.kill()
    process.wait(BOUND_S)
    for stream in (process.stdout, process.stderr, process.stdin):
        if stream is not None:
            stream.close()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Of every thread of a process; nothing where it has ended."""
    try:
        return [
            int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory(pid: int) -> bytes:
    """All that a process may write of its memory."""
    pieces = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as opened:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                opened.seek(start)
                pieces.append(opened.read(end - start))
    return b"".join(pieces)


def until(holds: Callable[[], object], what: str, within_s: float = BOUND_S) -> None:
    """Look again and again at something that has no event of ours."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.002)


def python(script: str) -> list[str]:
    """A COMMAND that is a small program, whose lines come at once."""
    return [sys.executable, "-u", "-S", "-E", "-c", script]
