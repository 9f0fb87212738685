"""COMMAND as a process: started with its values within reach, and everything else as whoever started us had it."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from kernelsecret.cli.run.plan import Pass, Status
from kernelsecret.cli.run.signals import Signals
from kernelsecret.problems import quoted
from telemetry.hardening import prctl

PR_SET_PDEATHSIG: Final = 1
_UNREACHABLE, _NOT_RUN, _ORPHAN = "unreachable", "not-run", "orphan"
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR)


class NotStarted(Exception):
    """Why COMMAND was not started, in a sentence, and what to exit with."""

    def __init__(self, status: Status, sentence: str) -> None:
        self.status = status
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class Start:
    """What every start of COMMAND has in common. `environment` has its final bytes but for the secrets; `core` is the
    limit on core dumps that it is to have."""

    command: Sequence[str]
    environment: Mapping[bytes, bytes]
    by: Pass
    signals: Signals
    core: tuple[int, int]

    def run(self, descriptors: Mapping[str, int], terminal: int | None) -> int:
        """The pid of a new COMMAND, whose variables name what leads to these descriptors: those of this process where
        it may open them (MEMFD), its own (PIPE: ends for reading). It leads a process group, which has the terminal.

        Raises NotStarted.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        us = os.getpid()
        owner = str(us) if self.by is Pass.MEMFD else "self"
        paths = {name: f"/proc/{owner}/fd/{fd}" for name, fd in descriptors.items()}
        self.signals.block()
        child = os.fork()
        if child == 0:
            _become(self, descriptors, paths, terminal, us, writing)
        with suppress(PermissionError, ProcessLookupError):  # it has run already, or ended
            os.setpgid(child, child)
        self.signals.unblock()
        os.close(writing)
        with os.fdopen(reading, "rb") as failure:
            told = failure.read().decode()
        if told:
            os.waitpid(child, 0)
            raise _failure(told, self.command[0])
        return child


def _become(
    start: Start, descriptors: Mapping[str, int], paths: Mapping[str, str], terminal: int | None, us: int, told: int
) -> NoReturn:
    stage = _UNREACHABLE
    try:
        os.setpgid(0, 0)
        if terminal is not None:
            with suppress(OSError):  # it hung up
                os.tcsetpgrp(terminal, os.getpid())
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # without us its paths lead nowhere
        if os.getppid() != us:
            stage = _ORPHAN
            raise ProcessLookupError(errno.ESRCH, "")
        for name, path in paths.items():
            if start.by is Pass.PIPE:
                os.set_inheritable(descriptors[name], True)
            else:
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        stage = _NOT_RUN
        resource.setrlimit(resource.RLIMIT_CORE, start.core)
        names = {os.fsencode(name): os.fsencode(path) for name, path in paths.items()}
        start.signals.restore()
        os.execvpe(start.command[0], list(start.command), {**start.environment, **names})  # noqa: S606
    except OSError as error:
        os.write(told, f"{stage}:{error.errno or 0}".encode())
    except BaseException:  # noqa: BLE001 - a fork must not go on with its parent's work
        os.write(told, f"{stage}:0".encode())
    finally:
        os._exit(Status.NOT_STARTED)
    raise AssertionError("unreachable")


def _failure(told: str, command: str) -> NotStarted:
    stage, _, number = told.partition(":")
    code = int(number)
    why = os.strerror(code) if code else "for an unknown reason"
    if stage == _UNREACHABLE:
        fix = "mount /proc as a user may read it and let its own processes be looked into, or use --pass pipe"
        return NotStarted(Status.NOT_STARTED, f"COMMAND cannot open the values below /proc ({why}); {fix}")
    if stage == _ORPHAN:
        return NotStarted(Status.NOT_STARTED, "COMMAND lost its supervisor before it began")
    if code in _NOT_THERE:
        return NotStarted(Status.NOT_FOUND, f"there is no command {quoted(command)}; look at its name, and at PATH")
    return NotStarted(Status.NOT_EXECUTABLE, f"{quoted(command)} cannot be run ({why})")
