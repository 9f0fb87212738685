"""Opening a secret's folder and reading all of it, as of one moment. I/O, but no state."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.sources.keys import DATA, MAX_KEYS, Busy, Missing, Outcome, Value, names_in, take
from agent.sources.system import open_beneath
from kernelsecret.errors import Code, Refused

FOLDER = os.O_PATH | os.O_DIRECTORY
_TRIES = 8


@contextmanager
def root_folder(root: Path) -> Iterator[int]:
    """The root of secrets, as a descriptor. Raises OSError."""
    fd = os.open(root, FOLDER | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def secret_folder(root: Path, path: str) -> Iterator[int]:
    """A secret's folder, as a descriptor; no part of its path may be a link. Raises OSError."""
    with root_folder(root) as top:
        fd = open_beneath(top, path, FOLDER, links=False)
    try:
        yield fd
    finally:
        os.close(fd)


def read_folder(folder: int, known: Collection[str] = (), only: Collection[str] | None = None) -> dict[str, Outcome]:
    """Every key of the folder, or those of `only` that are there, and what became of the known ones. Raises OSError.

    With `..data` all keys are of one target of it: where it is swapped meanwhile, everything is read again.
    """
    for _ in range(_TRIES):
        before = _target(folder)
        names, bad = names_in(folder) if only is None else ([], {})
        wanted = [*known, *[name for name in names if name not in known][: max(1, MAX_KEYS + 1 - len(known))]]
        outcomes: dict[str, Outcome] = {name: take(folder, name) for name in wanted} | bad
        for name in set(only or ()) - outcomes.keys():
            if not isinstance(outcome := take(folder, name), Missing):
                outcomes[name] = outcome
        if _target(folder) == before:
            return outcomes
    # Swapped faster than it can be read: the next event finds it at rest.
    return dict.fromkeys(known, Busy())


def read_keys(folder: int, names: Collection[str]) -> dict[str, Outcome] | None:
    """Some keys of the folder; None where `..data` was swapped meanwhile, which makes all of them new."""
    before = _target(folder)
    outcomes = {name: take(folder, name) for name in names}
    return outcomes if _target(folder) == before else None


def _target(folder: int) -> tuple[str, int] | None:
    try:
        # The inode too: a swap may lead to a folder of the same name.
        return os.readlink(DATA, dir_fd=folder), os.stat(DATA, dir_fd=folder, follow_symlinks=False).st_ino
    except OSError:
        return None


def label_of(outcomes: Collection[Outcome]) -> str:
    """The source's own name of a version: when the newest of its files was written, in UTC."""
    newest = max((outcome.mtime_ns for outcome in outcomes if isinstance(outcome, Value)), default=0)
    return datetime.fromtimestamp(newest / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def problem_of(error: OSError) -> str:
    """What an error of the node means for a secret, in words for an operator."""
    refused = refusal_of(error, "")
    return f"{refused.why}; {refused.fix}" if refused.fix else refused.why


def refusal_of(error: OSError, field: str) -> Refused:
    """The refusal that an error of the node is."""
    match error.errno:
        case errno.ENOENT:
            return Refused(Code.NOT_FOUND, field, "there is no such folder below the root of secrets")
        case errno.ENOTDIR:
            return Refused(Code.NOT_FOUND, field, "is no folder below the root of secrets")
        case errno.ELOOP | errno.EXDEV:
            why = "its path has a symbolic link"
            return Refused(
                Code.PERMISSION_DENIED, field, why, "make folders of it; inside of the secret's own, ..data may be one"
            )
        case errno.EMFILE | errno.ENFILE:
            why = "this node's limit of open files (RLIMIT_NOFILE, fs.file-max) or of inotify instances is reached"
            fix = "raise it, or fs.inotify.max_user_instances"
            return Refused(Code.RESOURCE_EXHAUSTED, field, why, fix)
        case errno.ENOSPC:
            why = "this node's limit of inotify watches is reached"
            return Refused(Code.RESOURCE_EXHAUSTED, field, why, "raise fs.inotify.max_user_watches")
        case errno.ENOMEM:
            return Refused(Code.RESOURCE_EXHAUSTED, field, "this node has no memory left for the kernel")
        case errno.ENOSYS | errno.EPERM:
            why = "openat2(2) may not be called"
            return Refused(Code.FAILED_PRECONDITION, field, why, "allow it in the agent's seccomp profile")
        case _:
            why = f"cannot be read ({os.strerror(error.errno or 0)})"
            return Refused(Code.UNAVAILABLE, field, why)
