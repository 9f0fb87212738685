"""Compare the C structs and enums of the BPF object with their Python mirror, through BTF."""

from __future__ import annotations

from ctypes import Structure, sizeof
from pathlib import Path

from agent.kernel._libbpf import ffi, lib
from agent.kernel.layout import ENUMS, STRUCTS
from kernelsecret.errors import KernelSecretError

PYTHON_NAME = {"from": "from_"}


def differences(object_path: Path) -> list[str]:
    """Every disagreement, in words; an empty list where the two are equal."""
    btf = lib.ks_btf_open(str(object_path).encode())
    if btf == ffi.NULL:
        raise KernelSecretError(f"{object_path}: has no BTF; build it with `make build`")
    try:
        found = [line for name, kind in STRUCTS.items() for line in _struct_differences(btf, name, kind)]
        for name, (prefix, enum) in ENUMS.items():
            mirror = {prefix + name_: int(member) for name_, member in enum.__members__.items()}
            found += _enum_differences(btf, name, mirror)
        return found
    finally:
        lib.btf__free(btf)


def _struct_differences(btf: object, name: str, kind: type[Structure]) -> list[str]:
    size, count = ffi.new("uint32_t *"), ffi.new("uint32_t *")
    type_id = lib.ks_btf_struct(btf, name.encode(), size, count)
    if type_id < 0:
        return [f"struct {name}: not in the object"]
    found = []
    if size[0] != sizeof(kind):
        found.append(f"struct {name}: {size[0]} bytes in C, {sizeof(kind)} in Python")
    mirror = [(field[0], getattr(kind, field[0]).offset, getattr(kind, field[0]).size) for field in kind._fields_]
    members, end = [], 0
    for index in range(count[0]):
        bits, width = ffi.new("uint32_t *"), ffi.new("int64_t *")
        member = ffi.string(lib.ks_btf_member(btf, type_id, index, bits, width)).decode()
        offset = bits[0] // 8
        if offset != end:
            found.append(f"struct {name}: a gap of {offset - end} bytes before {member}")
        end = offset + width[0]
        members.append((PYTHON_NAME.get(member, member), offset, width[0]))
    if end != size[0]:
        found.append(f"struct {name}: a gap of {size[0] - end} bytes at its end")
    for ours, theirs in zip(mirror, members, strict=False):
        if ours != theirs:
            found.append(f"struct {name}: (name, offset, size) is {theirs} in C, {ours} in Python")
    if len(mirror) != len(members):
        found.append(f"struct {name}: {len(members)} members in C, {len(mirror)} in Python")
    return found


def _enum_differences(btf: object, name: str, mirror: dict[str, int]) -> list[str]:
    count = ffi.new("uint32_t *")
    type_id = lib.ks_btf_enum(btf, name.encode(), count)
    if type_id < 0:
        return [f"enum {name}: not in the object"]
    value = ffi.new("int64_t *")
    theirs = {}
    for index in range(count[0]):
        enumerator = ffi.string(lib.ks_btf_enumerator(btf, type_id, index, value)).decode()
        theirs[enumerator] = int(value[0])
    theirs.pop("KS_REASONS", None)
    return [
        f"enum {name}: {key} is {theirs.get(key)} in C, {mirror.get(key)} in Python"
        for key in sorted(theirs.keys() | mirror.keys())
        if theirs.get(key) != mirror.get(key)
    ]
