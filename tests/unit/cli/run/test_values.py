"""What COMMAND opens: whole values, the newest at each opening, and who may open them."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from kernelsecret.cli.run.plan import Change, OnChange, Pass
from kernelsecret.cli.run.sealed import Sealed
from tests.unit.cli.run.supervised import python, supervised, until

LONG = 300_000


def test_a_value_cannot_be_changed_by_anybody() -> None:
    sealed = Sealed(b"value")
    for attempt in (
        lambda: os.pwrite(sealed.fd, b"x", 0),
        lambda: os.ftruncate(sealed.fd, 1),
        lambda: fcntl.fcntl(sealed.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    ):
        with pytest.raises(OSError, match="not permitted"):
            attempt()
    assert os.pread(sealed.fd, 100, 0) == b"value"
    assert os.fstat(sealed.fd).st_mode & 0o777 == 0o400
    sealed.close()
    sealed.close()


def test_an_empty_value_is_an_empty_file() -> None:
    sealed = Sealed(b"")
    assert os.pread(sealed.fd, 100, 0) == b""
    sealed.close()


def test_a_path_that_is_opened_again_shows_the_new_value_and_a_held_file_the_old_one() -> None:
    script = (
        "import os, sys\n"
        "path = os.environ['A']\n"
        "held = open(path)\n"
        "print(held.read(), os.stat(path).st_size)\n"
        "for line in sys.stdin:\n"
        "    held.seek(0)\n"
        "    print(held.read(), open(path).read(), os.stat(path).st_size)\n"
    )
    with supervised(python(script), stdin=subprocess.PIPE, change=Change()) as one:
        assert one.process.stdin is not None
        one.show(A=b"one")
        assert one.says.line() == "one 3"
        one.show(A=b"three")
        until(lambda: _content(one.pid, b"three"), "the supervisor has the new one")
        one.process.stdin.write(b"\n")
        one.process.stdin.flush()
        assert one.says.line() == "one three 5"


def test_nobody_ever_sees_half_of_a_value() -> None:
    script = (
        "import os, signal, sys\n"
        "seen, path = set(), os.environ['A']\n"
        "over = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: over.append(1))\n"
        "print('ready')\n"
        "while not over:\n"
        "    with open(path, 'rb') as opened: value = opened.read()\n"
        "    assert len(set(value)) == 1 and len(value) == 1000 * value[0], (len(value), value[:10])\n"
        "    seen.add(value[0])\n"
        "print(len(seen))\n"
    )
    with supervised(python(script)) as one:
        one.show(A=bytes([1]) * 1000)
        assert one.says.line() == "ready"
        for number in range(2, 202):
            one.show(A=bytes([number]) * (1000 * number))
        until(lambda: _content(one.pid, bytes([201]) * 201_000), "all are shown")
        one.signal(signal.SIGUSR1)
        assert int(one.says.line()) > 1
        assert one.status() == 0


def test_by_a_pipe_a_value_is_read_once_and_longer_ones_go_on_as_they_are_read() -> None:
    script = (
        "import os\n"
        "for name in 'AB':\n"
        "    path = os.environ[name]\n"
        "    assert path.startswith('/proc/self/fd/'), path\n"
        "    data = open(path, 'rb').read()\n"
        "    print(len(data), data[:3], data[-3:], open(path, 'rb').read())\n"
    )
    with supervised(python(script), by=Pass.PIPE) as one:
        one.show(A=b"short", B=b"<<<" + b"x" * LONG + b">>>")
        assert one.says.line() == "5 b'sho' b'ort' b''"
        assert one.says.line() == f"{LONG + 6} b'<<<' b'>>>' b''"
        assert one.status() == 0


def test_a_pipe_that_nobody_reads_keeps_nobody() -> None:
    with supervised(["true"], by=Pass.PIPE) as one:
        assert one.show(A=b"x" * LONG).status() == 0


def test_a_restart_brings_new_pipes_with_the_new_values() -> None:
    script = "cat $A $B; echo; exec sleep 1000"
    with supervised(["sh", "-c", script], by=Pass.PIPE, change=Change(OnChange.RESTART)) as one:
        one.show(A=b"old", B=b"+kept")
        assert one.says.line() == "old+kept"
        one.show(A=b"new")
        assert one.says.line() == "new+kept"


def test_only_a_supervisor_whose_values_are_opened_can_be_looked_into() -> None:
    # Root looks into everything by a capability: here by none.
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    for by, is_open in ((Pass.MEMFD, True), (Pass.PIPE, False)):
        with supervised(["sh", "-c", "echo ready; exec sleep 1000"], by=by, prefix=bare) as one:
            one.show()
            assert one.says.line() == "ready"
            look = subprocess.run([*bare, "readlink", f"/proc/{one.pid}/fd/0"], capture_output=True, check=False)
            assert (look.returncode == 0) is is_open, look


def _content(pid: int, value: bytes) -> bool:
    """Whether a memory file of a process has this value."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if "memfd:kernelsecret" in os.readlink(fd) and fd.read_bytes() == value:
                return True
    return False
