"""Closes a daemon's own memory to others: nothing dumps it, debugs it or swaps it out.

Call `harden()` first of all, before a thread is started or a secret is read: some of these hold for one thread and
those it starts. Each measure is checked by its effect afterwards, and none of them raises: a node that cannot lock
memory is reported, and the caller decides. What this does not stop: a process with CAP_SYS_PTRACE in the same user
namespace reads any memory, ours too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kernelsecret.errors import Code, Refused

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
MCL_CURRENT = 1  # these three are the same on x86-64 and arm64
MCL_FUTURE = 2
MCL_ONFAULT = 4
CAP_IPC_LOCK = 14
UMASK = 0o077

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure: whether it holds now, and why it does not or what it means."""

    name: str
    achieved: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Hardening:
    """What was achieved."""

    measures: tuple[Measure, ...]

    @property
    def missing(self) -> tuple[Measure, ...]:
        """Those that do not hold."""
        return tuple(measure for measure in self.measures if not measure.achieved)

    def require(self, *names: str) -> None:
        """Raises Refused, naming the first of `names` (all of them when none is given) that does not hold."""
        for measure in self.missing:
            if not names or measure.name in names:
                raise Refused(Code.FAILED_PRECONDITION, f"hardening.{measure.name}", measure.detail)

    def as_status(self) -> Mapping[str, Mapping[str, str | bool]]:
        """For the status document, JSON-ready."""
        return {one.name: {"achieved": one.achieved, "detail": one.detail} for one in self.measures}


def prctl(option: int, value: int = 0) -> int:
    """prctl(2) with one argument. Raises OSError."""
    result = int(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def status_field(text: str, name: str) -> str:
    """One field of /proc/PID/status, empty where it is not there. Pure."""
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{name}:")), "")


def _own(name: str) -> str:
    return status_field(Path("/proc/self/status").read_text(), name)


def _not_dumpable() -> tuple[bool, str]:
    prctl(PR_SET_DUMPABLE, 0)
    return prctl(
        PR_GET_DUMPABLE
    ) == 0, "no core dump, and no other process without CAP_SYS_PTRACE can attach or read the memory"


def _no_core() -> tuple[bool, str]:
    # A core_pattern that is a pipe ignores this limit, which is why being not dumpable comes first.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), "core size 0, also for children"


def _can_lock(status: str, soft_limit: int) -> bool:
    """Whether locking all future memory is safe: under a limit, a later allocation would fail in the middle of
    something. Pure.
    """
    effective = int(status_field(status, "CapEff") or "0", 16)
    return bool(effective >> CAP_IPC_LOCK & 1) or soft_limit == resource.RLIM_INFINITY


def _locked() -> tuple[bool, str]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not _can_lock(Path("/proc/self/status").read_text(), soft):
        return (
            False,
            f"memory can be swapped out: needs CAP_IPC_LOCK, or an unlimited RLIMIT_MEMLOCK (it is {soft} bytes)",
        )
    # ONFAULT: pages are locked as they are touched; else every thread's whole stack would count as resident.
    if _libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        number = ctypes.get_errno()
        return False, f"memory can be swapped out: mlockall failed ({errno.errorcode.get(number, number)})"
    return int((_own("VmLck") or "0").split()[0]) > 0, "no page goes to swap"


def _private_files() -> tuple[bool, str]:
    os.umask(UMASK)
    return int(_own("Umask") or "0", 8) == UMASK, "files are made for their owner alone"


def _no_new_privileges() -> tuple[bool, str]:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # It holds for this thread and those it starts: look whether another one was there before.
    for task in Path("/proc/self/task").iterdir():
        if status_field((task / "status").read_text(), "NoNewPrivs") != "1":
            return False, "a thread that was there before can still gain privileges: call harden() first"
    return True, "no set-uid program can gain privileges"


_MEASURES: Mapping[str, Callable[[], tuple[bool, str]]] = {
    "not_dumpable": _not_dumpable,
    "no_core": _no_core,
    "memory_locked": _locked,
    "umask": _private_files,
    "no_new_privileges": _no_new_privileges,
}


def _take(name: str, measure: Callable[[], tuple[bool, str]]) -> Measure:
    try:
        return Measure(name, *measure())
    except (OSError, ValueError) as failure:
        number = failure.errno if isinstance(failure, OSError) and failure.errno else 0
        return Measure(name, False, f"the kernel refused ({errno.errorcode.get(number, type(failure).__name__)})")


def harden() -> Hardening:
    """Take every measure and report each one. Idempotent; raises nothing."""
    return Hardening(tuple(_take(name, measure) for name, measure in _MEASURES.items()))
