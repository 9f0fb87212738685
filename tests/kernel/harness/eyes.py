"""The tests' own eyes on BPF: bpf(2) by number, independent of libbpf and of the code under test."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.needs import BPF_SYSCALL

NEXT_ID = {"program": 11, "map": 12, "link": 31}
OBJ_GET, INFO_BY_FD = 7, 15
ITER_CREATE, LINK_CREATE = 33, 28
ID_OFFSET = 4

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """bpf(2); what it returned (or minus errno), and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    number = BPF_SYSCALL[platform.machine()]
    result = int(_libc.syscall(number, command, buffer, len(buffer)))
    return (result if result >= 0 else -ctypes.get_errno()), buffer.raw


def ids(kind: str) -> Iterator[int]:
    """Every program, map or link that the kernel has."""
    current = 0
    while True:
        result, answer = bpf(NEXT_ID[kind], struct.pack("=II", current, 0))
        if result < 0:
            return
        current = struct.unpack_from("=I", answer, 4)[0]
        yield current


def everything() -> set[tuple[str, int]]:
    """(kind, id) of all there is."""
    return {(kind, number) for kind in NEXT_ID for number in ids(kind)}


def id_of(fd: int) -> tuple[str, int]:
    """(kind, id) of an open BPF object."""
    kind = os.readlink(f"/proc/self/fd/{fd}").removeprefix("anon_inode:").strip("[]")
    info = ctypes.create_string_buffer(256)
    result, _ = bpf(INFO_BY_FD, struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    name = {"bpf-map": "map", "bpf-prog": "program", "bpf_link": "link", "bpf-link": "link"}[kind]
    return name, int(struct.unpack_from("=I", info.raw, ID_OFFSET)[0])


def open_pin(path: Path) -> int:
    """BPF_OBJ_GET; a descriptor, or minus errno."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))[0]


def pinned_below(directory: Path) -> set[tuple[str, int]]:
    """(kind, id) of everything that is pinned below a directory."""
    found = set()
    for folder, _, names in os.walk(directory):
        for name in names:
            fd = open_pin(Path(folder) / name)
            if fd >= 0:
                found.add(id_of(fd))
                os.close(fd)
    return found


def own_descriptors() -> list[str]:
    """What of BPF this process holds open, but for descriptors of other kinds."""
    held = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if "bpf" in target:
            held.append(target)
    return sorted(held)
