"""Pods as the kernel sees them: a pod-shaped cgroup, and programs in it. Nothing of ours runs in them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.kernel.node import read_facts
from tests.agent.tree import Pod

PROGRAM = Path(__file__).with_name("pod_program.py")
STOP_S = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader that ran all the time met."""

    rounds: int
    faults: list[str]
    versions: list[str]


class Cgroups:
    """Makes pods' cgroups where kubelet's cgroupfs driver does, and removes what it made."""

    def __init__(self) -> None:
        cgroup = read_facts().cgroup
        assert cgroup is not None
        self.root = cgroup.root
        self._made: list[Path] = []

    def make(self, pod: Pod) -> Path:
        """The cgroup of the pod's one container."""
        container = self.root / "kubepods" / "burstable" / f"pod{pod.ref.uid}" / "c1"
        for folder in (*reversed(container.relative_to(self.root).parents), container.relative_to(self.root)):
            path = self.root / folder
            if not path.exists():
                path.mkdir()
                self._made.append(path)
        return container

    def remove(self) -> list[Path]:
        """Remove all of it; what could not be removed. The folders above the pods may be another's by now."""
        left = []
        for path in reversed(self._made):
            try:
                path.rmdir()
            except OSError:
                left.append(path)
        self._made.clear()
        return [path for path in left if path.exists() and path.name.startswith(("pod", "c1"))]


class Program:
    """A program in a pod, started: `read` reads files as the pod does; `Program.loop` reads all the time."""

    def __init__(self, cgroup: Path, *arguments: str) -> None:
        enter = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
        self._process = subprocess.Popen(
            ["sh", "-c", enter, "sh", sys.executable, "-I", "-u", str(PROGRAM), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    @classmethod
    def loop(cls, cgroup: Path, paths: Iterable[Path]) -> Program:
        """A program that reads all the time."""
        return cls(cgroup, "loop", *map(str, paths))

    def read(self, *paths: Path) -> list[bytes | int]:
        """Each file's value, or the errno of the attempt."""
        return self._ask({"read": [str(path) for path in paths]})

    def hold(self, path: Path, count: int) -> bytes | int:
        """Open a file and read so many bytes of it, in one call."""
        return self._ask({"hold": str(path), "bytes": count})[0]

    def rest(self) -> bytes | int:
        """The rest of the file that is held."""
        return self._ask({"rest": True})[0]

    def _ask(self, question: dict[str, object]) -> list[bytes | int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._line())
        return [base64.b64decode(one["value"]) if "value" in one else int(one["errno"]) for one in answers]

    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def finish(self) -> Seen:
        """Stop a loop; what it met."""
        self._process.terminate()
        return Seen(**json.loads(self._line()))

    def close(self) -> None:
        """End it, however it is."""
        self._process.kill()
        self._process.wait(STOP_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the pod's program ended: {self._process.wait(STOP_S)}")
        return line.strip()


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
