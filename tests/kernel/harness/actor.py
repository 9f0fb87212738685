"""A process that does what a test tells it to, over a socket of its own; it runs alone, on the standard library.

Usage: actor.py ADDRESS LABEL. Children that it forks, threads and what it executes each connect anew, so that a test
speaks to every task of a family by itself.
"""

from __future__ import annotations

import array
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from typing import Any

ADDRESS = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
SYS_BPF, SYS_CLONE3 = {"x86_64": (321, 435), "aarch64": (280, 435)}[os.uname().machine]
CLONE_INTO_CGROUP = 0x200000000


def connect(label: str) -> socket.socket:
    own = socket.socket(socket.AF_UNIX)
    own.connect("\0" + ADDRESS)
    own.sendall(json.dumps({"label": label, "pid": os.getpid()}).encode() + b"\n")
    return own


# What a test may ask for. What an OSError says comes back as {"errno": ...}.


def read(path: str, size: int = 1 << 20) -> dict[str, Any]:
    """Open, read to the end by reads of `size` bytes, close."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_fd(fd, size)
    finally:
        os.close(fd)


def read_fd(fd: int, size: int = 1 << 20, most: int = 0) -> dict[str, Any]:
    """Read to the end, or `most` reads; what came, and the errno that ended it (0: the end)."""
    parts: list[bytes] = []
    number = 0
    while not most or len(parts) < most:
        try:
            part = os.read(fd, size)
        except OSError as error:
            number = error.errno or errno.EIO
            break
        if not part:
            break
        parts.append(part)
    return {"data": b"".join(parts).hex(), "errno": number, "reads": len(parts)}


def read_all(paths: list[str]) -> list[dict[str, Any]]:
    """Read files one after the other, as one task."""
    return [read(path) for path in paths]


def stat(path: str) -> dict[str, int]:
    found = os.stat(path)
    return {key: getattr(found, "st_" + key) for key in ("size", "mode", "uid", "gid", "ino", "mtime_ns")}


def stat_then_read(path: str, most: int) -> dict[str, Any]:
    """As programs do that trust st_size: a buffer of that size, filled by as many reads as it takes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        return {"size": size} | read_fd(fd, max(size, 1), most)
    finally:
        os.close(fd)


def attempt(name: str, *args: Any) -> Any:
    """A function of `os`."""
    result = getattr(os, name)(*args)
    return result if isinstance(result, (int, str, list)) else None


def mount(source: str, target: str, kind: str, flags: int) -> int:
    return checked(libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None))


def join(procs: str) -> int:
    """Move this process into a cgroup."""
    with open(procs, "w") as file:
        return file.write("0")


def spawn(label: str = "child") -> int:
    """Fork a child that lives beside."""
    return serve_in_child(label) or 0


def orphan(label: str = "orphan") -> int:
    """Fork a grandchild whose parent ends at once, so that another becomes its parent."""
    middle = os.fork()
    if middle == 0:
        serve_in_child(label)
        os._exit(0)
    os.waitpid(middle, 0)
    return middle


def spawn_into(cgroup: str, label: str = "cloned") -> int:
    """clone3(CLONE_INTO_CGROUP): a child that begins its life in another cgroup (v2)."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    arguments = struct.pack("=11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, fd)
    buffer = ctypes.create_string_buffer(arguments, len(arguments))
    child = checked(libc.syscall(SYS_CLONE3, buffer, len(arguments)))
    if child == 0:
        run_forever(connect(label))
    os.close(fd)
    return child


def spawn_as(pids: list[int], label: str = "reborn") -> int:
    """clone3(set_tid): a child with these pids, innermost namespace first."""
    numbers = (ctypes.c_int * len(pids))(*pids)
    pointer = ctypes.addressof(numbers)
    buffer = ctypes.create_string_buffer(
        struct.pack("=11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, pointer, len(pids), 0)
    )
    child = checked(libc.syscall(SYS_CLONE3, buffer, 88))
    if child == 0:
        run_forever(connect(label))
    return child


def start_thread(label: str = "thread") -> int:
    thread = threading.Thread(target=lambda: serve(connect(label)), daemon=True)
    thread.start()
    return 0


def execute(argv: list[str]) -> None:
    """Become another program."""
    os.execv(argv[0], argv)


def run(argv: list[str], own_stdin: bool = False) -> dict[str, Any]:
    """A child that executes a program: how it ended and what it said."""
    stdin = None if own_stdin else subprocess.DEVNULL
    done = subprocess.run(argv, capture_output=True, check=False, stdin=stdin)
    return {"code": done.returncode, "out": done.stdout.hex(), "err": done.stderr.decode(errors="replace")}


def environment(name: str) -> str:
    return os.environ.get(name, "")


def count_signals(number: int) -> None:
    """Count a signal from now on, instead of what it does to others."""

    def count(*_: object) -> None:
        counted[0] += 1

    counted[0] = 0
    signal.signal(number, count)


def signals() -> int:
    return counted[0]


def listen(address: str) -> int:
    door = socket.socket(socket.AF_UNIX)
    door.bind("\0" + address)
    door.listen()
    return door.detach()


def take(door: int) -> int:
    """Receive a descriptor."""
    listening = socket.socket(fileno=door)
    taken, _ = listening.accept()
    descriptors = array.array("i")
    _, ancillary, _, _ = taken.recvmsg(1, socket.CMSG_LEN(descriptors.itemsize))
    descriptors.frombytes(ancillary[0][2][: descriptors.itemsize])
    taken.close()
    listening.close()
    return descriptors[0]


def give(address: str, fd: int) -> int:
    """Send a descriptor by SCM_RIGHTS."""
    with socket.socket(socket.AF_UNIX) as own:
        own.connect("\0" + address)
        own.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    return 0


def bpf(command: int, attributes: str, path: str = "") -> int:
    """bpf(2) with these attributes (hex); a path is put where its pointer belongs, at the start."""
    name = ctypes.create_string_buffer(path.encode())
    raw = bytes.fromhex(attributes)
    if path:
        raw = struct.pack("=Q", ctypes.addressof(name)) + raw
    buffer = ctypes.create_string_buffer(raw.ljust(128, b"\0"), 128)
    return checked(libc.syscall(SYS_BPF, command, buffer, 128))


def kind_of_pin(path: str, flags: int) -> str | int:
    """What BPF_OBJ_GET opens at a path, or the errno."""
    try:
        fd = bpf(7, struct.pack("=II", 0, flags).hex(), path)
    except OSError as error:
        return error.errno or 0
    kind = descriptor_kind(fd)
    os.close(fd)
    return kind


def descriptor_kind(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def walk(directory: str) -> list[str]:
    """Every file below a directory, hidden ones too."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names]


def hammer(paths: list[str], last: int) -> dict[str, Any]:
    """Read files in turn until they are of version `last` (harness/values.py); what was not as it should be.

    The size that a file shows binds the first of the files only: a task that has read one stays with its version.
    """
    problems: list[str] = []
    seen: set[int] = set()
    while last not in seen and len(problems) < 20:
        found: list[int] = []
        for index, path in enumerate(paths):
            try:
                fd = os.open(path, os.O_RDONLY)
                size = os.fstat(fd).st_size
                parts = []
                while part := os.read(fd, 1 << 20):
                    parts.append(part)
                os.close(fd)
            except OSError as error:
                problems.append(f"errno {error.errno}")
                continue
            value = b"".join(parts)
            found += value[:1]
            if value.count(value[:1]) != len(value):
                problems.append("torn")
            if index == 0 and len(value) < size:
                problems.append(f"short: {len(value)} of {size}")
        if len(set(found)) != 1 or len(found) != len(paths):
            problems.append(f"of versions {found}")
        seen.update(found)
    return {"problems": problems, "seen": sorted(seen)}


def hammer_refused(path: str, count: int) -> int:
    """Try to read a file many times; how often that was refused."""
    refused = 0
    for _ in range(count):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.read(fd, 1)
        except OSError:
            refused += 1
        os.close(fd)
    return refused


def watch(path: str, mask: int) -> int:
    """An inotify descriptor that watches a path."""
    fd = checked(libc.inotify_init1(os.O_NONBLOCK))
    checked(libc.inotify_add_watch(fd, path.encode(), mask))
    return fd


def watched(fd: int) -> list[tuple[int, str]]:
    """(mask, name) of every event that waits."""
    found = []
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return []
    while data:
        _, mask, _, length = struct.unpack_from("=iIII", data)
        found.append((mask, data[16 : 16 + length].rstrip(b"\0").decode()))
        data = data[16 + length :]
    return found


def open_many(path: str, count: int) -> dict[str, int]:
    """Open a file many times, read one byte of each, keep them; how many were served and how many refused."""
    served = refused = 0
    for _ in range(count):
        fd = os.open(path, os.O_RDONLY)
        kept.append(fd)
        try:
            served += len(os.read(fd, 1))
        except OSError:
            refused += 1
    return {"served": served, "refused": refused}


def close_many() -> int:
    while kept:
        os.close(kept.pop())
    return 0


# The machinery

kept: list[int] = []
counted = [0]


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def serve_in_child(label: str) -> int | None:
    child = os.fork()
    if child == 0:
        run_forever(connect(label))
    return child


def run_forever(own: socket.socket) -> None:
    try:
        serve(own)
    finally:
        os._exit(0)


def serve(own: socket.socket) -> None:
    for line in own.makefile("r"):
        name, args = json.loads(line)
        try:
            answer = {"result": globals()[name](*args)}
        except OSError as error:
            answer = {"errno": error.errno}
        except Exception as error:  # noqa: BLE001 - the test is told of it
            answer = {"problem": repr(error)}
        own.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    run_forever(connect(sys.argv[2]))
