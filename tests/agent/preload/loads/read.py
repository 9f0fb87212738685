"""read.py LIVE PREFIXED MOUNTED: reads a rotating file in the ways of Python, and says what was not one whole value.

An application that knows nothing of us. A value is one line of eight digits, repeated; no read may be of an earlier
value than the read before it, whichever way either went. Until SIGTERM, then once more, then a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PAUSE_S = 0.004
LINES = 500
MOST_FAULTS = 10


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def from_start(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return b"".join(iter(lambda: os.read(descriptor, 4096), b""))


def by_offset(descriptor: int) -> bytes:
    found = b""
    while part := os.pread(descriptor, 4096, len(found)):
        found += part
    return found


def number_of(value: bytes) -> int:
    number = int(value[:8])
    if value != value[:9] * (LINES + number % 64):
        raise ValueError
    return number


def main(live: str, prefixed: str, mounted: str) -> None:
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    held, also_held = os.open(live, os.O_RDONLY), os.open(prefixed, os.O_RDONLY)
    stream = open(live, "rb")  # noqa: SIM115 - held on purpose
    text = open(prefixed, encoding="ascii")  # noqa: SIM115

    def anew() -> bytes:
        with open(live, "rb") as file:
            return file.read()

    def again() -> bytes:
        stream.seek(0)
        return stream.read()

    def text_again() -> bytes:
        text.seek(0)
        return text.read().encode()

    ways: dict[str, Callable[[], bytes]] = {
        "open().read()": anew,
        "os.lseek, os.read": lambda: from_start(held),
        "Path.read_bytes (prefix)": lambda: Path(prefixed).read_bytes(),
        "Path.read_bytes (subPath)": lambda: Path(mounted).read_bytes(),
        "os.pread": lambda: by_offset(also_held),
        "file.seek(0)": again,
        "text file.seek(0)": text_again,
    }
    reads = dict.fromkeys(ways, 0)
    faults: list[str] = []
    for call in (os.chdir, os.readlink):  # not taken over: the folder is not there
        try:
            call(os.path.dirname(prefixed))
        except FileNotFoundError:
            continue
        faults.append(f"{call.__name__}: found")
    last = versions = 0
    say("ready")
    while True:
        is_last_round = bool(stopped)
        for name, way in ways.items():
            reads[name] += 1
            value = b""
            try:
                value = way()
                number = number_of(value)
            except OSError as error:
                faults.append(f"{name}: {error}")
            except ValueError:
                faults.append(f"{name}: not one whole value: {len(value)} bytes, {value[:9]!r}..{value[-9:]!r}")
            else:
                if number < last:
                    faults.append(f"{name}: {number} after {last}")
                versions += number > last
                last = max(last, number)
        if not os.path.exists(prefixed) or os.stat(prefixed).st_size % 9:
            faults.append("os.stat: not found")
        if is_last_round:
            break
        time.sleep(PAUSE_S)
    say(json.dumps({"reads": reads, "faults": faults[:MOST_FAULTS], "last": last, "versions": versions}))


if __name__ == "__main__":
    main(*sys.argv[1:])
