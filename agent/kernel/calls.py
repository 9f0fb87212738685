"""System calls into BPF, typed: every failure is a KernelError with its errno, and every call is counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from ctypes import Array, Structure, addressof, c_uint32, c_uint64, sizeof
from pathlib import Path
from typing import TypeVar

from agent.kernel._libbpf import ffi, lib
from kernelsecret.errors import KernelSecretError

S = TypeVar("S", bound=Structure)
V = TypeVar("V", bound=Structure)

NO_FLAGS = 0
ONLY_NEW = 1
"""BPF_NOEXIST: the key must not be there yet."""
IN_PLACE = 4
"""BPF_F_LOCK: overwrite the element where it is, instead of putting another in its place."""


class KernelError(KernelSecretError):
    """The kernel refused a call; `errno` says why, `call` which one."""

    def __init__(self, call: str, number: int, detail: str = "") -> None:
        self.call = call
        self.errno = number
        self.name = errno.errorcode.get(number, str(number))
        super().__init__(f"{call}: {self.name} ({os.strerror(number)})" + (f"; {detail}" if detail else ""))


class Key32(Structure):
    """The key of an array map."""

    value: int
    _fields_ = (("value", c_uint32),)


class Key64(Structure):
    """The key of a map by id."""

    value: int
    _fields_ = (("value", c_uint64),)


Count = Callable[[str, int], None]
_count: Count = lambda call, number: None  # noqa: E731 (replaced by count_with)


def count_with(count: Count) -> None:
    """Tell `count(call, errno)` of every call from now on; errno is 0 where it worked."""
    global _count
    _count = count


def checked(call: str, result: int) -> int:
    """The result of a call, or KernelError where it is negative."""
    _count(call, min(result, 0))
    if result < 0:
        raise KernelError(call, -result)
    return result


def _at(value: Structure) -> object:
    return ffi.cast("void *", addressof(value))


def update(fd: int, key: Structure, value: Structure, flags: int = NO_FLAGS) -> None:
    """bpf_map_update_elem."""
    checked("map_update", lib.ks_map_update(fd, _at(key), _at(value), flags))


def lookup(fd: int, key: Structure, kind: type[S]) -> S | None:
    """bpf_map_lookup_elem; None where there is no such key."""
    value = kind()
    result = lib.ks_map_lookup(fd, _at(key), _at(value))
    if result == -errno.ENOENT:
        return None
    checked("map_lookup", result)
    return value


def delete(fd: int, key: Structure) -> bool:
    """bpf_map_delete_elem; False where there was no such key."""
    result = lib.ks_map_delete(fd, _at(key))
    if result == -errno.ENOENT:
        return False
    checked("map_delete", result)
    return True


def keys(fd: int, kind: type[S]) -> Iterator[S]:
    """Every key of a map that nobody else is deleting from."""
    previous: S | None = None
    while True:
        key = kind()
        result = lib.ks_map_next_key(fd, ffi.NULL if previous is None else _at(previous), _at(key))
        if result == -errno.ENOENT:
            return
        checked("map_next_key", result)
        yield key
        previous = key


def update_batch(fd: int, all_keys: Array[S], values: Array[V], element_flags: int = NO_FLAGS) -> None:
    """bpf_map_update_batch: as many keys as values. A failure may leave a part of them written."""
    done = ffi.new("uint32_t *", len(all_keys))
    result = lib.ks_map_update_batch(
        fd, ffi.cast("void *", addressof(all_keys)), ffi.cast("void *", addressof(values)), done, element_flags
    )
    checked("map_update_batch", result)


def delete_batch(fd: int, all_keys: Array[S]) -> None:
    """bpf_map_delete_batch; keys that are not there are an error (ENOENT)."""
    done = ffi.new("uint32_t *", len(all_keys))
    checked("map_delete_batch", lib.ks_map_delete_batch(fd, ffi.cast("void *", addressof(all_keys)), done))


def size_of(kind: type[Structure]) -> int:
    """Size of a struct in bytes."""
    return sizeof(kind)


def create_map(kind: str, name: str, value_bytes: int, entries: int) -> int:
    """A new map (`array` or `hash`) with u32 keys; the descriptor is the caller's to close."""
    return checked("map_create", lib.ks_map_create(kind.encode(), name.encode(), 4, value_bytes, entries))


def element_size(fd: int, name: str) -> int:
    """Bytes of the one element of an array map that has this name; 0 where the descriptor is of another object."""
    return checked("obj_info", lib.ks_element_size(fd, name.encode()))


def write_element(fd: int, content: bytearray) -> None:
    """Overwrite the one element of an array map, where it is; `content` has the element's size."""
    key = Key32(0)
    checked("map_update", lib.ks_map_update(fd, _at(key), ffi.from_buffer(content), NO_FLAGS))


def read_element(fd: int, size: int) -> bytearray:
    """The one element of an array map, of `element_size` bytes."""
    key, content = Key32(0), bytearray(size)
    checked("map_lookup", lib.ks_map_lookup(fd, _at(key), ffi.from_buffer(content)))
    return content


def iterator_link(program: int, steps_map: int) -> int:
    """A link that runs `program` over `steps_map` at each read; the descriptor is the caller's to close."""
    return checked("link_create", lib.ks_iter_link(program, steps_map))


def replace_program(link: int, program: int) -> None:
    """Swap the program of a live iterator link: descriptors already open keep the old one."""
    checked("link_update", lib.ks_link_replace(link, program))


def pin(fd: int, path: str) -> None:
    """Give a BPF object a name in a bpffs."""
    checked("obj_pin", lib.ks_obj_pin(fd, path.encode()))


def unpin(path: str) -> None:
    """Take a name in a bpffs away: the object goes with its last name and descriptor. Idempotent."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        checked("obj_unpin", -(error.errno or errno.EIO))
    checked("obj_unpin", 0)


def get(path: str) -> int:
    """Open a pinned BPF object; the descriptor is the caller's to close."""
    return checked("obj_get", lib.ks_obj_get(path.encode()))
