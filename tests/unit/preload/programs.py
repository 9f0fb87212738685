"""Programs of each kind, built by gcc in a moment and run: they say that they run, and wait."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.needs import need_program

WAITING = """
#include <unistd.h>
int main(void) { return write(1, "\\n", 1) != 1 || pause(); }
"""
# 32-bit, and without a library: this machine may have none of that width. As a linker it is what runs.
WAITING_32 = """
.globl _start
_start:
    push $10
    mov $4, %eax
    mov $1, %ebx
    mov %esp, %ecx
    mov $1, %edx
    int $0x80
    mov $29, %eax
    int $0x80
"""
KINDS = {"dynamic": [], "static": ["-static"], "static-pie": ["-static-pie"]}


def build(folder: Path, kind: str, compiler: str = "gcc") -> Path:
    """A program of one of `KINDS`, which is its file's name, too."""
    made = folder / kind
    _compile([str(need_program(compiler)), "-xc", "-", "-o", str(made), *KINDS[kind]], WAITING)
    return made


def build_32(folder: Path, *, linker: bool) -> Path:
    """A 32-bit program, static or with a dynamic linker of its own."""
    gcc = [str(need_program("gcc")), "-m32", "-nostdlib", "-xassembler", "-"]
    alone = folder / "alone32"
    _compile([*gcc, "-static-pie", "-o", str(alone)], WAITING_32)
    if not linker:
        return alone
    made = folder / "dynamic32"
    _compile([*gcc, "-pie", f"-Wl,--dynamic-linker={alone}", "-o", str(made)], WAITING_32)
    return made


def build_shim(folder: Path) -> Path:
    """Something to be preloaded."""
    made = folder / "libkernelsecret.so"
    _compile([str(need_program("gcc")), "-shared", "-fPIC", "-xc", "-", "-o", str(made)], "int kernelsecret_shim;\n")
    return made


def _compile(command: list[str], source: str) -> None:
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)


@contextmanager
def running(*command: str | Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program that has begun to run, until the block ends."""
    child = subprocess.Popen(
        list(map(str, command)),
        env=env or {},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdout
        assert child.stdout.readline() == b"\n", "the program runs"
        try:
            yield child
        finally:
            child.kill()
