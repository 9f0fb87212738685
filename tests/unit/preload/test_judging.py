"""Why the shim is not in a program: by what the kernel gave real programs of each kind, and by hand-made bytes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.preload.judging import (
    MOST_TEXT,
    Program,
    Start,
    Why,
    judge,
    maps_device,
    names_shim,
    read_start,
    read_told,
    shown_path,
    told,
)
from agent.preload.scanning import read_image
from kernelsecret.names import SHIM_FILE, SHIM_ROOT
from tests.unit.preload.programs import build, build_32, running

SHIM = f"{SHIM_ROOT}/{SHIM_FILE}".encode()
PRELOADED = b"HOME=/\0LD_PRELOAD=" + SHIM + b"\0"


def started(*command: str | Path) -> Start | None:
    with running(*command) as child:
        image = read_image(child.pid)
        assert image is not None
        assert image.path == os.path.realpath(command[0])
        assert image == read_image(child.pid), "the same program"
        return read_start(Path(f"/proc/{child.pid}/auxv").read_bytes())


@pytest.mark.parametrize(("kind", "has_linker"), [("dynamic", True), ("static", False), ("static-pie", False)])
def test_the_kernel_tells_of_a_real_program_whether_it_has_a_linker(
    tmp_path: Path, kind: str, has_linker: bool
) -> None:
    assert started(build(tmp_path, kind)) == Start(True, has_linker, False)


def test_a_program_of_musl_is_told_alike(tmp_path: Path) -> None:
    assert started(build(tmp_path, "dynamic", "musl-gcc")) == Start(True, True, False)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit programs are made for x86 here")
@pytest.mark.parametrize("linker", [False, True])
def test_a_32_bit_program_is_known_by_the_width_of_what_the_kernel_gave_it(tmp_path: Path, linker: bool) -> None:
    assert started(build_32(tmp_path, linker=linker)) == Start(False, linker, False)


def auxv(*entries: tuple[int, int], width: str = "=QQ") -> bytes:
    return b"".join(struct.pack(width, *entry) for entry in ((6, 4096), *entries, (0, 0)))


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        (auxv((7, 0x7F0000000000), (23, 1)), Start(True, True, True)),
        (auxv((33, 0x7FFC00000000), (7, 0), (23, 0)), Start(True, False, False)),
        (auxv((32, 0xF7F00000), (7, 0xF7F10000), (23, 1), width="=II"), Start(False, True, True)),
        (bytes(16), None),
        (b"", None),
        (b"\x06", None),
    ],
)
def test_what_the_kernel_gave_a_program_is_read_at_both_widths(given_: bytes, found: Start | None) -> None:
    assert read_start(given_) == found


@given(st.binary(max_size=400))
def test_no_bytes_are_too_strange(some: bytes) -> None:
    read_start(some)
    names_shim(some)
    maps_device(some, 5)


@pytest.mark.parametrize(
    ("start", "environ", "why"),
    [
        (Start(True, False, False), PRELOADED, Why.STATIC),
        (Start(False, False, False), PRELOADED, Why.STATIC),
        (Start(False, True, True), PRELOADED, Why.BITS_32),
        (Start(True, True, True), b"", Why.SETUID),
        (Start(True, True, False), b"HOME=/\0", Why.ENVIRONMENT),
        (Start(True, True, False), PRELOADED, Why.NOT_LOADED),
    ],
)
def test_of_several_reasons_the_one_is_said_that_no_setting_mends(start: Start, environ: bytes, why: Why) -> None:
    assert judge(start, environ) is why


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        (b"LD_PRELOAD=" + SHIM, True),
        (b"LD_PRELOAD=" + SHIM + b":/opt/own.so\0A=b", True),
        (b"A=b\0LD_PRELOAD=/opt/own.so " + SHIM + b"\0", True),
        (b"LD_PRELOAD=/opt/own.so\0", False),
        (b"LD_PRELOAD=" + SHIM + b".old\0", False),
        (b"MY_LD_PRELOAD=" + SHIM, False),
        (b"NOTE=LD_PRELOAD=" + SHIM, False),
        (b"", False),
    ],
)
def test_only_the_one_variable_says_whether_the_shim_was_asked_for(environ: bytes, names: bool) -> None:
    assert names_shim(environ) is names


def test_a_file_of_the_device_is_found_in_the_maps_whatever_their_paths_say() -> None:
    maps = (
        b"7f00-7f10 r-xp 00000000 00:2a 3                          /run/secrets/x.so (deleted)\n"
        b"7f20-7f30 r-xp 00000000 08:01 77                         /tmp/00:2b /x\n"
        b"7fff-8000 rw-p 00000000 00:00 0                          [stack]\n"
    )
    assert maps_device(maps, 0x2A)
    assert maps_device(maps, 8 << 20 | 1)
    assert not maps_device(maps, 0x2B), "a path is no device"


def test_programs_are_told_sorted_and_read_again() -> None:
    programs = {Program("/usr/bin/su", Why.SETUID), Program("/bin/busybox", Why.STATIC), Program("/a", Why.NOT_LOADED)}
    text = told(programs)
    assert text == "/a: not loaded, /bin/busybox: static, /usr/bin/su: setuid"
    assert read_told(text) == programs


def test_what_does_not_fit_is_counted() -> None:
    text = told(Program(f"/opt/{number:03}/{'x' * 80}", Why.STATIC) for number in range(50))
    assert MOST_TEXT - 130 < len(text) <= MOST_TEXT
    shown = len(read_told(text))
    assert text.endswith(f", and {50 - shown} more")


@pytest.mark.parametrize("text", ["", "nonsense", "/bin/x: fine", "x: static", "/bin/x", ": static"])
def test_what_no_agent_wrote_says_nothing(text: str) -> None:
    assert read_told(text) == set()


@given(st.sets(st.builds(Program, st.text(max_size=30).map(lambda text: shown_path("/" + text)), st.sampled_from(Why))))
def test_any_path_can_be_told_and_read_again(programs: set[Program]) -> None:
    text = told(programs)
    assert text.isprintable()
    assert read_told(text) <= programs
    if not text.endswith(" more"):
        assert read_told(text) == programs


def test_a_program_that_was_replaced_is_told_by_its_path() -> None:
    assert shown_path("/app/server (deleted)") == "/app/server"
    assert shown_path("/app/\x1b[2J\n") == "/app/\\x1b[2J\\x0a"
