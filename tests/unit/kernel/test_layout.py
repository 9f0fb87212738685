"""The structs of the BPF programs and their mirror in Python are one layout, and the check that says so can say no."""

from __future__ import annotations

from ctypes import Structure, c_uint32, c_uint64, sizeof
from enum import IntEnum
from pathlib import Path

import pytest

from agent.kernel import layout, layout_check
from agent.kernel.layout import STRUCTS, Limit
from agent.kernel.programs import MAPS, OBJECT
from kernelsecret.errors import KernelSecretError

BPF = Path(__file__).parents[3] / "bpf"


def test_the_mirror_agrees_with_the_object() -> None:
    assert layout_check.differences(OBJECT) == []


def test_every_struct_and_every_map_of_the_headers_is_known_here() -> None:
    text = (BPF / "layout.h").read_text()
    named = {line.split()[1] for line in text.splitlines() if line.startswith("struct ks_") and line.endswith("{")}
    assert named | {"ks_chunk"} == set(STRUCTS)
    maps = [line.split()[1] for line in (BPF / "maps.h").read_text().splitlines() if line.startswith("} ")]
    assert set(maps) - set(MAPS) == {"finished"}, "a map that is not pinned is lost with the program"


def test_the_layouts_version_is_that_of_the_header() -> None:
    assert f"#define KS_LAYOUT_VERSION {layout.LAYOUT_VERSION}\n" in (BPF / "layout.h").read_text()


class Short(Structure):
    _fields_ = (("grant_id", c_uint64), ("grant_slot", c_uint32))


class Renamed(Structure):
    _fields_ = (("grant_id", c_uint64), ("slot", c_uint32), ("reserved", c_uint32))


class Swapped(Structure):
    _fields_ = (("grant_slot", c_uint32), ("reserved", c_uint32), ("grant_id", c_uint64))


@pytest.mark.parametrize("mirror", [Short, Renamed, Swapped])
def test_a_struct_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, mirror: type[Structure]) -> None:
    monkeypatch.setitem(STRUCTS, "ks_step", mirror)
    found = layout_check.differences(OBJECT)
    assert found
    assert all(line.startswith("struct ks_step: ") for line in found)


def test_a_number_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(IntEnum):
        DENY = 1
        KILL = 3
        AUDIT = 2

    monkeypatch.setitem(layout.ENUMS, "ks_action", ("KS_ACTION_", Other))
    assert layout_check.differences(OBJECT) == [
        "enum ks_action: KS_ACTION_AUDIT is 3 in C, 2 in Python",
        "enum ks_action: KS_ACTION_KILL is 2 in C, 3 in Python",
    ]


def test_what_the_object_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRUCTS, "ks_nothing", Short)
    assert layout_check.differences(OBJECT) == ["struct ks_nothing: not in the object"]


def test_an_object_without_types_is_refused_in_words(tmp_path: Path) -> None:
    empty = tmp_path / "empty.o"
    empty.write_bytes(b"")
    with pytest.raises(KernelSecretError, match=r"empty\.o: has no BTF"):
        layout_check.differences(empty)


def test_a_chunk_with_its_header_is_three_quarters_of_a_slab_page() -> None:
    assert sizeof(STRUCTS["ks_chunk"]) == 2048 * 3 // 4
    assert Limit.CHUNK_BYTES * Limit.STEP_CHUNKS < Limit.BUFFER_BYTES
