"""The C programs of the benchmarks, compiled into the run's own folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "c"
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE")
# A program that is started a thousand times is static: what is timed is our work, not the dynamic linker's.
STATIC = ("launch", "first", "notified", "torn", "reads")
LIBRARIES = {"unmanaged": ("-lbpf", "-lpthread"), "reviews": ("-lssl", "-lcrypto", "-lm")}


class ToolFailed(RuntimeError):
    """A program of the benchmarks could not be compiled, or ended with an error; the text is its own."""


class Tools:
    """Compiles each program at its first use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def path(self, name: str) -> Path:
        """The compiled program of `bench/c/NAME.c`."""
        program = self._folder / name
        if not program.exists():
            static = ("-static",) if name in STATIC else ()
            command = ["gcc", *FLAGS, *static, "-o", str(program), str(SOURCES / f"{name}.c"), *LIBRARIES.get(name, ())]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise ToolFailed(f"gcc {name}.c: {done.stderr.strip()}")
        return program

    def run(self, name: str, *arguments: str | Path, timeout_s: float = 300.0) -> str:
        """What the program prints. Raises ToolFailed where it ends with an error."""
        return self.run_command([str(self.path(name)), *map(str, arguments)], timeout_s)

    def run_command(self, command: list[str], timeout_s: float = 300.0) -> str:
        """The same for a whole command line."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        if done.returncode:
            raise ToolFailed(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout
