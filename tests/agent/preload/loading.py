"""Programs that read and check by themselves, in loads/: each is the first of a container, until it is told to stop."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernelsecret.cli.simulation.pod import Container, python
from tests.agent.preload.place import MOUNTED, TOOLS, Place, path_of
from tests.agent.preload.watching import Seen

SOURCES: Final = Path(__file__).parent / "loads"
STOP_WITHIN_S: Final = 30.0
FLAGS: Final = ("-O1", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, slots=True)
class Load:
    """A program, and what compiles it in the folder that containers have as /tools."""

    name: str
    command: tuple[str, ...]
    compiler: tuple[str, ...] = ()


def loads() -> tuple[Load, ...]:
    """All of them, as this machine has them."""
    java, node, busybox = map(path_of, ("java", "node", "busybox"))
    return (
        Load("python", (python(), "-I", f"{TOOLS}/read.py")),
        Load("node", (node, f"{TOOLS}/read.js")),
        Load(
            "java", (java, "-Xshare:auto", "-XX:+UseSerialGC", "-Xmx64m", "-cp", TOOLS, "Read"), ("javac", "Read.java")
        ),
        Load("musl", (f"{TOOLS}/read",), ("musl-gcc", *FLAGS, "-o", "read", "read.c")),
        Load("busybox", (busybox, "sh", f"{TOOLS}/read.sh")),
    )


def bring(programs: Iterable[Load], tools: Path) -> None:
    """Bring what they need there."""
    for path in SOURCES.iterdir():
        shutil.copy(path, tools)
    for load in programs:
        if load.compiler:
            subprocess.run(load.compiler, cwd=tools, check=True, capture_output=True)


class Running:
    """One that runs, and checks what it reads."""

    def __init__(self, load: Load, place: Place) -> None:
        self.name = load.name
        self.container: Container = place.start(load.name, (*load.command, place.live, place.prefixed, MOUNTED))
        line = self.container.process.stdout.readline()
        if line.strip() != b"ready":
            raise RuntimeError(f"{load.name} did not begin: {self.container.process.stderr.read().decode()[-2000:]}")

    def finish(self, has_shim: bool) -> Seen:
        """Tell it to stop after one more round; what it met."""
        self.container.process.send(signal.SIGTERM)
        ended = self.container.process.finish(STOP_WITHIN_S)
        try:
            seen = Seen(**json.loads(ended.stdout), has_shim=has_shim)
        except ValueError:
            seen = Seen(faults=[f"ended with {ended.status}: {ended.stderr.decode(errors='replace')[-500:]}"])
        return seen
