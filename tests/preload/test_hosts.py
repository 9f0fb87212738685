"""Programs as they are found: fortified, cancelled, static, setuid, of 32 bits, with small stacks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.needs import need, need_program
from tests.preload.building import KINDS, Built, Kind
from tests.preload.volume import Volume

GLIBC, MUSL = Kind("glibc"), Kind("musl", "musl-gcc")
LOADER_32, LIBC_32 = Path("/lib/ld-linux.so.2"), Path("/lib32/libc.so.6")
# Calls the libc of 32 bits, whose headers are not needed for it.
SMALL = """int open(const char *, int, ...);
long read(int, void *, unsigned long), write(int, const void *, unsigned long);
void _exit(int);
void _start(void) { char text[9]; write(1, text, read(open(FILE, 0), text, 9)); _exit(0); }
"""
FORTIFIED = ("-O2", "-D_FORTIFY_SOURCE=2")


def before_and_after(command: list[str | Path], environment: Mapping[str, str], volume: Volume) -> list[str]:
    """What the program says: with the first value, and after a rotation."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = [process.stdout.readline().rstrip("\n")]
        volume.put("key", "second")
        rest, errors = process.communicate("go\n", timeout=60)
    assert (process.returncode, errors) == (0, "")
    return said + rest.split()


@pytest.mark.parametrize("flags", [(), FORTIFIED], ids=["plain", "fortified"])
def test_a_program_with_direct_calls_is_followed(
    built: Built, kind: Kind, volume: Volume, flags: tuple[str, ...]
) -> None:
    program = built.program("plain", kind, *flags)
    environment = built.environment(kind, str(volume.folder))
    assert before_and_after([program, "read", volume / "key"], environment, volume) == ["first", "second", "second"]


def test_the_fortified_program_calls_the_fortified_forms(built: Built) -> None:
    names = subprocess.run(
        ["nm", "-u", built.program("plain", GLIBC, *FORTIFIED)], capture_output=True, text=True, check=True
    )
    assert {"__open_2", "__pread_chk"} <= {line.split()[-1].partition("@")[0] for line in names.stdout.splitlines()}


# A sanitizer's own frames do not fit on such a stack.
@pytest.mark.parametrize("kind", [one for one in KINDS if not one.sanitizes], ids=lambda one: one.name)
def test_a_handler_with_a_small_stack_reads_the_new_file(built: Built, kind: Kind, volume: Volume) -> None:
    program = built.program("plain", kind)
    environment = built.environment(kind, str(volume.folder))
    assert before_and_after([program, "small", volume / "key"], environment, volume) == ["first", "second"]


@pytest.mark.parametrize("libc", [GLIBC, MUSL], ids=lambda kind: kind.name)
def test_a_thread_that_waits_in_an_open_can_be_cancelled(built: Built, volume: Volume, libc: Kind) -> None:
    os.mkfifo(volume / "pipe")
    program = built.program("plain", libc)
    environment = built.environment(libc, str(volume.folder))
    done = subprocess.run([program, "cancel", volume / "pipe"], env=environment, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("libc", [GLIBC, MUSL], ids=lambda kind: kind.name)
def test_a_static_program_runs_on_without(built: Built, volume: Volume, libc: Kind) -> None:
    program = built.program("plain", libc, "-static")
    environment = built.environment(libc, str(volume.folder))
    assert before_and_after([program, "read", volume / "key"], environment, volume) == ["first", "first", "first"]


def test_a_setuid_program_runs_on_without(built: Built, volume: Volume) -> None:
    need(os.geteuid() == 0, "root, to make a program setuid for another user")
    program = Path(shutil.copy(built.program("plain", GLIBC), volume.folder.parent / "setuid"))
    for folder in (volume.folder, *volume.folder.parents[:3]):
        folder.chmod(0o755)
    os.chown(program, 65534, 65534)
    program.chmod(0o4755)
    command: list[str | Path] = [program, "read", volume / "key"]
    assert before_and_after(command, built.environment(GLIBC, str(volume.folder)), volume) == ["first"] * 3


def test_from_a_noexec_mount_the_program_runs_on_without_and_the_loader_says_so(built: Built, volume: Volume) -> None:
    need(os.geteuid() == 0, "root, to mount")
    mount = volume.folder.parent / "noexec"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec,size=1m", "none", mount], check=True)
    try:
        shutil.copy(built.shim(GLIBC), mount)
        environment = built.environment(GLIBC, str(volume.folder), LD_PRELOAD=str(mount / built.shim(GLIBC).name))
        program: list[str | Path] = [built.program("plain", GLIBC), "read", volume / "key"]
        done = subprocess.run(
            program, env=environment, input="go\n", capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        subprocess.run(["umount", mount], check=True)
    assert (done.returncode, done.stdout.split()) == (0, ["first"] * 3)
    assert "cannot be preloaded" in done.stderr


def test_a_program_of_32_bits_runs_on_without_and_the_loader_says_so(built: Built, volume: Volume) -> None:
    need(LOADER_32.exists() and LIBC_32.exists(), "a loader and a libc of 32 bits (libc6-i386)")
    source = volume.folder.parent / "small.c"
    source.write_text(SMALL)
    program = source.with_suffix("")
    command = ["gcc", "-m32", "-fPIE", "-pie", "-nostdlib", "-ffreestanding", f"-Wl,--dynamic-linker={LOADER_32}"]
    subprocess.run([*command, f'-DFILE="{volume / "key"}"', source, LIBC_32, "-o", program], check=True)
    environment = built.environment(GLIBC, str(volume.folder))
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "first")
    assert "wrong ELF class: ELFCLASS64" in done.stderr


@pytest.mark.parametrize("libc", [GLIBC, MUSL], ids=lambda kind: kind.name)
def test_an_executed_program_is_followed_too(built: Built, volume: Volume, libc: Kind) -> None:
    program = built.program("plain", libc)
    environment = built.environment(libc, str(volume.folder))
    command: list[str | Path] = [need_program("sh"), "-c", '(exec "$0" read "$1")', program, volume / "key"]
    assert before_and_after(command, environment, volume) == ["first", "second", "second"]


def test_python_finds_the_new_file_behind_its_own_calls(built: Built, volume: Volume) -> None:
    """dlopen()ed code, calls by ctypes, scandir with descriptors: all of them find the shim first."""
    code = (
        "import ctypes, os, sys; path = sys.argv[1].encode(); libc = ctypes.CDLL(None)\n"
        "fd = libc.open(path, 0); f = open(path, 'rb', buffering=0); print(os.pread(fd, 99, 0).decode(), flush=True)\n"
        "input(); print(os.pread(fd, 99, 0).decode()); f.seek(0); print(f.read().decode())\n"
    )
    command: list[str | Path] = [need_program("python3"), "-c", code, volume / "key"]
    assert before_and_after(command, built.environment(GLIBC, str(volume.folder)), volume) == [
        "first",
        "second",
        "second",
    ]
