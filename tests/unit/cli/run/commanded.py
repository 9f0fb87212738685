"""`kernelsecret-ctl run` as a user starts it: supervisor, resolver and COMMAND."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.unit.cli.run.supervised import BOUND_S, Said, ended

CTL = (sys.executable, "-P", "-m", "kernelsecret.cli.main", "run")


@dataclass
class Commanded:
    """One that runs: what COMMAND says, and what we say."""

    process: subprocess.Popen[bytes]
    says: Said
    warns: Said

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def resolver(self) -> int:
        """The process beside COMMAND."""
        tasks = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return next(int(one) for one in tasks if os.getsid(int(one)) == int(one))

    def tell(self, line: str = "") -> None:
        """A line to COMMAND."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def status(self) -> int:
        return self.process.wait(BOUND_S)


def environment(**more: str) -> dict[str, str]:
    """A user's, without anything of Vault's."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | more


@contextmanager
def commanded(*words: str | Path, **variables: str) -> Iterator[Commanded]:
    """Options, `--`, COMMAND; ended with the block."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*CTL, *words], env=environment(**variables), stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield Commanded(process, Said(process.stdout.fileno()), Said(process.stderr.fileno()))
    finally:
        ended(process)


def ran(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """One that ends by itself."""
    return subprocess.run(
        [*CTL, *words], env=environment(**variables), capture_output=True, text=True, timeout=BOUND_S, check=False
    )


def replaced(path: Path, content: str) -> Path:
    """The file with this content, as a careful writer leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(content)
    return new.replace(path)
