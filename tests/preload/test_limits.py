"""What docs/preload.md says that the shim does not reach, and what it says besides of descriptors, met in Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.needs import need_program
from tests.preload.building import Built, Kind
from tests.preload.volume import Volume

BEGIN = """import ctypes, fcntl, mmap, os, platform, socket, subprocess, sys
live, app, new = sys.argv[1:]
path = live + "/key"
libc = ctypes.CDLL(None, use_errno=True)
OPENAT, LSEEK = {"x86_64": (257, 8), "aarch64": (56, 62)}[platform.machine()]
def rotate(): os.replace(new, path)
def again(fd):
    os.lseek(fd, 0, 0)
    return os.read(fd, 99).decode()
"""
OLD = {
    "a descriptor by a system call": "fd = libc.syscall(OPENAT, -100, path.encode(), 0); rotate(); print(again(fd))",
    "going back by a system call": "fd = os.open(path, 0); rotate()\n"
    "libc.syscall(LSEEK, fd, 0, 0); print(os.read(fd, 99).decode())",
    "a relative path": "os.chdir(live); fd = os.open('key', 0); rotate(); print(again(fd))",
    "a seek in the program's own buffer": "f = open(path, 'rb'); f.read(2); rotate(); f.seek(0)\n"
    "print(f.read(5).decode())",
    "mapped pages": "fd = os.open(path, 0); m = mmap.mmap(fd, 5, prot=1); rotate(); again(fd); print(m[:5].decode())",
    "the libc's own handle": "own = ctypes.CDLL('libc.so.6'); fd = own.open(path.encode(), 0); rotate()\n"
    "print(again(fd))",
    "sendfile at its own offset": "a, b = socket.socketpair(); fd = os.open(path, 0); rotate()\n"
    "os.sendfile(a.fileno(), fd, 0, 99); print(os.read(b.fileno(), 99).decode()); a.close(); b.close()",
    "a descriptor over exec": "fd = os.open(path, 0); os.set_inheritable(fd, True); rotate(); os.execv(sys.executable, "
    "[sys.executable, '-c', f'import os; os.lseek({fd}, 0, 0); print(os.read({fd}, 99).decode())'])",
    "a descriptor over a socket": "a, b = socket.socketpair(); fd = os.open(path, 0)\n"
    "socket.send_fds(a, [b'x'], [fd]); _, (got,), _, _ = socket.recv_fds(b, 1, 1); rotate(); print(again(got))\n"
    "a.close(); b.close()",
}
NEW = {
    "a descriptor": "fd = os.open(path, 0); rotate(); print(again(fd))",
    "a buffer that was read to the end": "f = open(path); f.read(); rotate(); f.seek(0); print(f.read())",
    "what is mapped again": "fd = os.open(path, 0); rotate(); again(fd); print(mmap.mmap(fd, 6, prot=1)[:].decode())",
    "a path relative to a folder": "d = os.open(live, 0); fd = os.open('key', 0, dir_fd=d); rotate(); print(again(fd))",
    "a child after a fork": "fd = os.open(path, 0); rotate(); p = os.fork()\n"
    "if p: os.wait()\nelse: print(again(fd), flush=True); os._exit(0)",
    "what a started program reads": "rotate(); print(subprocess.run(['cat', app + '/key'], capture_output=True, "
    "text=True).stdout)",
}
ABSENT = {
    "readlink": "os.readlink(app + '/link')",
    "realpath": "libc.realpath((app + '/key').encode(), None) or os.stat(app + '/none')",
    "posix_spawn": "os.posix_spawn('/bin/true', ['true'], {}, "
    "file_actions=[(os.POSIX_SPAWN_OPEN, 0, app + '/key', 0, 0)])",
    "execve": "os.execv(app + '/key', ['key'])",
}


def said(built: Built, volume: Volume, app: Path, code: str) -> str:
    """What Python prints, where the file is rotated from `first` to `second` in the code."""
    new = volume.folder.parent / "new"
    new.write_text("second")
    environment = built.environment(Kind("glibc"), f"{volume.folder}:{app}={volume.folder}")
    command: list[str | Path] = [need_program("python3"), "-c", BEGIN + code, volume.folder, app, new]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("what", OLD)
def test_this_shows_the_old_value(built: Built, volume: Volume, overlaid: Path, what: str) -> None:
    assert said(built, volume, overlaid, OLD[what]) == "first"


@pytest.mark.parametrize("what", NEW)
def test_this_shows_the_new_value(built: Built, volume: Volume, overlaid: Path, what: str) -> None:
    assert said(built, volume, overlaid, NEW[what]) == "second"


@pytest.mark.parametrize("function", ABSENT)
def test_this_function_knows_no_overlay(built: Built, volume: Volume, overlaid: Path, function: str) -> None:
    (volume / "link").symlink_to("key")
    code = f"try:\n {ABSENT[function]}\nexcept FileNotFoundError: print('absent')"
    assert said(built, volume, overlaid, code) == "absent"


def test_copies_share_their_position_until_one_goes_back_after_a_rotation(
    built: Built, volume: Volume, overlaid: Path
) -> None:
    code = (
        "a = os.open(path, 0); b = os.dup(a); os.read(a, 2); print(os.lseek(b, 0, 1)); os.lseek(a, 0, 0)\n"
        "print(os.lseek(b, 0, 1)); os.lseek(a, 3, 0); rotate(); os.lseek(a, 0, 0); print(os.lseek(b, 0, 1))"
    )
    assert said(built, volume, overlaid, code).split() == ["2", "0", "3"]


def test_a_lock_stays_with_the_old_file(built: Built, volume: Volume, overlaid: Path) -> None:
    code = (
        "fd = os.open(path, 0); fcntl.flock(fd, fcntl.LOCK_EX); rotate(); os.lseek(fd, 0, 0)\n"
        "other = os.open(path, 0); fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')"
    )
    assert said(built, volume, overlaid, code) == "free"
