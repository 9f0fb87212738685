"""What a test needs of the machine: in CI a lack of it fails the test, elsewhere it is skipped with the reason."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import struct
from functools import cache
from pathlib import Path

import pytest

# bpf(2) and its first command by number: the tests' own eyes, independent of the code under test.
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
BPF_MAP_CREATE = 0
BPF_MAP_TYPE_ARRAY = 2


def need(there: object, what: str) -> None:
    """Fails (CI=true) or skips (elsewhere) the running test unless `there` is true."""
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {what}", pytrace=False)
    pytest.skip(f"needs {what}")


def need_program(name: str) -> Path:
    """Path of a program that the test runs; scripts/apt-packages.txt says which package has it."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    need(found, f"the program {name}")
    assert found is not None
    return Path(found)


@cache
def kernel_lacks() -> str | None:
    """Why tests of the kernel cannot run here, or None; found by doing, not by reading versions."""
    if os.geteuid() != 0:
        return "root"
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        return "an x86_64 or aarch64 machine"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "a kernel with BTF (/sys/kernel/btf/vmlinux)"
    attributes = ctypes.create_string_buffer(struct.pack("=5I", BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0).ljust(128, b"\0"))
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.syscall(number, BPF_MAP_CREATE, attributes, len(attributes.raw)))
    if descriptor < 0:
        return f"bpf(BPF_MAP_CREATE), which fails: {os.strerror(ctypes.get_errno())}"
    os.close(descriptor)
    return None
