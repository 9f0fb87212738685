"""Keeps the process small: what a large list left goes back to the system, and what stays is not walked again."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE_BYTES = 512 << 10
_KEPT_BYTES = 1 << 20

_libc = ctypes.CDLL(None)


def prepare() -> None:
    """Before anything large is made. Where the C library is not glibc nothing is changed."""
    if hasattr(_libc, "mallopt"):
        # Fixed, for otherwise glibc raises it after the first page of a list, and what follows is never given back.
        # Not so low that it catches the 256 KB with which each read of TLS begins: mapping, clearing (all of it, where
        # memory is locked) and unmapping them took a third of a review.
        _libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        _libc.mallopt(_M_ARENA_MAX, 2)


def settle() -> None:
    """When all is there that stays."""
    gc.collect()
    gc.freeze()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
