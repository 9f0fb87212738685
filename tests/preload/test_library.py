"""The library itself: what it asks of a libc, what it takes over, and that it builds for the other architecture."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hatch_build import ROOT, SHIM, SHIM_FLAGS, BuildError, find_tool
from tests.needs import need
from tests.preload.building import SHIM_SOURCES

# Both libcs have had these since long before 2018, and none of them has a version that matters.
ASKED = {"__errno_location", "dl_iterate_phdr", "environ"}
MOST_BYTES = 60_000


def tool(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def is_built() -> None:
    need(SHIM.exists(), f"{SHIM.relative_to(ROOT)} (make build)")


def test_it_asks_for_three_names_of_any_libc_and_can_do_without_each() -> None:
    lines = [line.split() for line in tool("nm", "-D", "--undefined-only", "--with-symbol-versions", SHIM).splitlines()]
    assert {line[-1] for line in lines} == ASKED, "no name may have a version"
    assert {line[-2] for line in lines} == {"w"}


def test_it_needs_no_library_and_no_thread_local_storage_and_can_be_looked_up_by_either_hash() -> None:
    dynamic = tool("readelf", "--dynamic", "--wide", SHIM)
    assert "(NEEDED)" not in dynamic
    assert "(VERNEED)" not in dynamic
    assert "(TEXTREL)" not in dynamic
    assert "(HASH)" in dynamic
    assert "(GNU_HASH)" in dynamic
    assert "NODELETE" in dynamic
    segments = tool("readelf", "--segments", "--wide", SHIM)
    assert "TLS" not in segments.split("Section to Segment")[0]
    assert not re.search(r"GNU_STACK.*E", segments)


def test_its_relocations_are_its_own_addresses_and_the_three_names() -> None:
    lines = [line.split() for line in tool("readelf", "--relocs", "--wide", SHIM).splitlines() if " R_" in line]
    named = {line[4] for line in lines if "RELATIVE" not in line[2]}
    assert named <= ASKED
    assert {line[2] for line in lines} <= {
        "R_X86_64_RELATIVE",
        "R_X86_64_GLOB_DAT",
        "R_AARCH64_RELATIV",
        "R_AARCH64_GLOB_DA",
    }


def test_it_gives_the_functions_that_it_takes_over_and_nothing_else() -> None:
    given = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", SHIM).splitlines()}
    text = (ROOT / "preload" / "shim.h").read_text()
    known = set(
        re.findall(r"X\((\w+)\)", text.partition("#define FUNCTIONS(X)")[2].partition("#define FUNCTION_NUMBER")[0])
    )
    helpers = {"closedir", "fclose", "dirfd", "fileno", "fflush", "ftello", "flockfile", "funlockfile"}
    assert given == known - helpers
    page = (ROOT / "docs" / "preload.md").read_text()
    assert (
        given == set(re.findall(r"`(\w+)`", page.partition("## What it takes over\n")[2].partition("\n## ")[0])) & known
    )


def test_the_page_names_each_system_call_of_a_swap() -> None:
    helpers = dict(re.findall(r"raw_(\w+)\(.*?\n\{\n\treturn raw\(NR_(\w+)", (ROOT / "preload" / "raw.h").read_text()))
    swap = (ROOT / "preload" / "held.c").read_text()
    called = set(re.findall(r"NR_(\w+)", swap)) | {helpers[name] for name in re.findall(r"\braw_(\w+)\(", swap)}
    page = (ROOT / "docs" / "preload.md").read_text().partition("leave those of a swap")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", page)) == {name.lower() for name in called}


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_the_numbers_of_system_calls_are_the_kernels(machine: str, header: str) -> None:
    """Those of aarch64 are the generic ones, which every machine's headers have."""
    found = Path("/usr/include") / header
    need(found.exists(), f"the kernel's header {header} (linux-libc-dev)")
    right = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", found.read_text()))
    right |= {"pread": right["pread64"], "newfstatat": right.get("newfstatat") or right["fstatat"]}
    text = (ROOT / "preload" / "raw.h").read_text()
    ours = text.partition(f"defined(__{machine}__)\nenum {{")[2].partition("};")[0] + "NR_FACCESSAT2 = 439"
    numbers = {name.lower(): number for name, number in re.findall(r"NR_(\w+) = (\d+)", ours)}
    assert len(numbers) > 15
    assert numbers == {name: right[name] for name in numbers}


def test_it_is_small() -> None:
    assert SHIM.stat().st_size < MOST_BYTES


def test_the_stack_of_a_call_is_small() -> None:
    """A call may come from a signal handler's stack."""
    assert "char name[NAME_BYTES]" in (ROOT / "preload" / "open.c").read_text()
    flags = [*SHIM_FLAGS, "-Wframe-larger-than=2048", "-Wstack-usage=2048"]
    for source in SHIM_SOURCES:
        tool("gcc", *flags, "-c", source, "-o", "/dev/null")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_it_compiles_for_both_architectures(machine: str, tmp_path: Path) -> None:
    try:
        clang = find_tool("clang", "clang")
    except BuildError:
        need(False, "clang")
        raise
    for source in SHIM_SOURCES:
        made = tmp_path / f"{source.stem}.o"
        tool(clang, f"--target={machine}-linux-gnu", *SHIM_FLAGS, "-c", source, "-o", made)
        asked = tool("nm", "--undefined-only", made).split()
        assert not {"memcpy", "memset", "memmove", "memcmp", "strlen", "__stack_chk_fail"} & set(asked)
