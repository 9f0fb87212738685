"""Values that tell where they were cut, mixed or shortened."""

from __future__ import annotations

import hashlib


def pattern(size: int, seed: int = 1) -> bytes:
    """`size` bytes that repeat nowhere, and differ everywhere from those of another seed."""
    stream = hashlib.shake_128(seed.to_bytes(8, "little"))
    return stream.digest(size)


def version(number: int, size: int) -> bytes:
    """A value every byte of which says its version (modulo 251)."""
    return bytes([number % 251]) * size
