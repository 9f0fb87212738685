"""The program tests/preload/c/reader.c under the shim: it is told what to call, one call after the other."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType


class Told:
    """One running reader. Answers are text; an errno comes as its name, for example `ENOENT`."""

    def __init__(self, program: Path, environment: Mapping[str, str], cwd: Path | None = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [program], env=environment, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def __enter__(self) -> Told:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The program ends well, and a sanitizer found nothing: it says so by the status and on standard error."""
        _, said = self._process.communicate(timeout=60)
        if kind is None:
            assert (self._process.returncode, said) == (0, "")

    @property
    def pid(self) -> int:
        return self._process.pid

    def __call__(self, *words: object) -> str:
        """Has it make one call. Its answer, where errno is as it was; with `~` at the end where it is not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            _, said = self._process.communicate(timeout=60)
            raise AssertionError(f"ended with {self._process.returncode} at {words}: {said}")
        answer = answer.rstrip("\n")
        return errno.errorcode[int(answer[1:])] if answer.startswith("!") else answer
