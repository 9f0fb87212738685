"""Why the shim is not in a process, from what the kernel shows of it. Pure: bytes in, words out.

How a program was started is read from the auxiliary vector that the kernel gave it, not from its file: that asks no
file system for anything, and is true also of a file that has been replaced since. AT_BASE is where the dynamic linker
was loaded, 0 where the file names none (no PT_INTERP).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kernelsecret.names import ENV_PRELOAD, SHIM_FILE, SHIM_ROOT
from telemetry.text import clean

MOST_TEXT: Final = 1024
"""Characters of the annotation."""
MOST_PATH: Final = 200
"""Characters of one program's path in it."""
SHIM_POINTS: Final = frozenset({SHIM_ROOT, SHIM_ROOT.replace("/var/run/", "/run/", 1)})
"""Where a container has the shim mounted: in most images /var/run leads to /run."""

_AT_NULL, _AT_PAGE_SIZE, _AT_BASE, _AT_SECURE = 0, 6, 7, 23
_LAST_KEY: Final = 1 << 16
_SHIM: Final = f"{SHIM_ROOT}/{SHIM_FILE}".encode()
_OF_ENVIRON: Final = f"{ENV_PRELOAD}=".encode()


class Why(StrEnum):
    """Why the shim is not in a program: users find the word in an annotation, an Event, a metric, so it is to stay."""

    STATIC = "static"  # no dynamic linker, so nobody looks at LD_PRELOAD
    BITS_32 = "32-bit"  # the shim is 64-bit; ld.so says so itself: wrong ELF class
    SETUID = "setuid"  # or setgid, or file capabilities: the kernel says AT_SECURE, and the linker preloads no paths
    ENVIRONMENT = "environment"  # whoever started it did not pass LD_PRELOAD on
    NOT_LOADED = "not loaded"  # none of these


_WORDS: Final = {why.value: why for why in Why}


@dataclass(frozen=True, slots=True)
class Start:
    """How the kernel started a program."""

    is_64_bit: bool
    has_linker: bool
    is_secure: bool


@dataclass(frozen=True, slots=True, order=True)
class Program:
    """One program of a pod that the shim does not reach. `path` is text to be shown, as the process sees it."""

    path: str
    why: Why


def read_start(auxv: bytes) -> Start | None:
    """How a program was started, from /proc/PID/auxv; None before the kernel has filled it, and of a kernel thread."""
    for is_64_bit in (True, False):
        entries = _entries(auxv, is_64_bit=is_64_bit)
        if _AT_PAGE_SIZE in entries:
            return Start(is_64_bit, bool(entries.get(_AT_BASE)), bool(entries.get(_AT_SECURE)))
    return None


def _entries(auxv: bytes, *, is_64_bit: bool) -> dict[int, int]:
    """Empty where it is not of that width: then some keys are halves of addresses."""
    pair = struct.Struct("=QQ" if is_64_bit else "=II")
    found: dict[int, int] = {}
    for at in range(0, len(auxv) - pair.size + 1, pair.size):
        key, value = pair.unpack_from(auxv, at)
        if key == _AT_NULL:
            return found
        if key >= _LAST_KEY:
            return {}
        found[key] = value
    return found


def names_shim(environ: bytes) -> bool:
    """Whether LD_PRELOAD names the shim. Nothing else of the environment is looked at, and nothing is kept."""
    return any(
        _SHIM in entry[len(_OF_ENVIRON) :].replace(b" ", b":").split(b":")
        for entry in environ.split(b"\0")
        if entry.startswith(_OF_ENVIRON)
    )


def maps_device(maps: bytes, device: int) -> bool:
    """Whether a file of the device (as `Mount.device` has it) is mapped, by the text of /proc/PID/maps."""
    word = f"{device >> 20:02x}:{device & 0xFFFFF:02x}".encode()
    return word in maps and any(line.split(None, 4)[3:4] == [word] for line in maps.splitlines())


def judge(start: Start, environ: bytes) -> Why:
    """Why the shim is not mapped in a process that was started so. Of several reasons the one that no setting mends."""
    if not start.has_linker:
        return Why.STATIC
    if not start.is_64_bit:
        return Why.BITS_32
    if start.is_secure:
        return Why.SETUID
    return Why.NOT_LOADED if names_shim(environ) else Why.ENVIRONMENT


def told(programs: Iterable[Program]) -> str:
    """The annotation: `/bin/busybox: static, /usr/bin/su: setuid`, sorted; what does not fit is counted."""
    ordered = sorted(programs)
    words, left = [], MOST_TEXT - len(", and 10000 more")
    for one in ordered:
        word = f"{one.path}: {one.why.value}"
        left -= len(word) + 2
        if left < 0:
            break
        words.append(word)
    if len(words) < len(ordered):
        words.append(f"and {len(ordered) - len(words)} more")
    return ", ".join(words)


def read_told(text: str) -> set[Program]:
    """What an earlier agent told; whatever else the annotation says is passed over."""
    found = set()
    for word in text[:MOST_TEXT].split(", "):
        path, _, why = word.rpartition(": ")
        if path.startswith("/") and why in _WORDS:
            found.add(Program(path, _WORDS[why]))
    return found


def shown_path(path: str) -> str:
    """A program's path as people are told it: without what the kernel adds to that of a file that is gone."""
    return clean(path.removesuffix(" (deleted)"), MOST_PATH).replace(", ", ",\\x20")
