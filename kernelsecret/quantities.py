"""Durations, sizes and file modes as people write them in YAML. Pure; every error says what would be right."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|k|M|G)?")
_UNITS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}
_OCTAL = re.compile(r"(?:0o?)?([0-7]{1,4})")
READABLE = 0o444


def seconds(text: str) -> float:
    """Seconds of a duration such as `500ms`, `1s` or `1m30s`. Raises ValueError for anything else."""
    if len(text) > 40 or not _DURATION.fullmatch(text):
        raise ValueError("not a duration such as 500ms, 1s or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def size(value: int | str) -> int:
    """Bytes of a number or a quantity such as `64Ki`. Raises ValueError for anything else, also below 0."""
    if isinstance(value, int):
        if value < 0:
            raise ValueError("less than 0")
        return value
    matched = _SIZE.fullmatch(value)
    if not matched:
        raise ValueError("not a number of bytes such as 65536, 64Ki or 1Mi")
    return int(matched[1]) * _UNITS[matched[2]]


def mode(value: int | str) -> int:
    """Permission bits of a number or an octal string. Raises ValueError unless it is some of r--r--r--.

    The volume is read only and never executes, so other bits could only be a mistake; the commonest is 440 (decimal),
    which is 0670.
    """
    if isinstance(value, str):
        matched = _OCTAL.fullmatch(value)
        if not matched:
            raise ValueError('not an octal mode such as "0440"')
        value = int(matched[1], 8)
    if value <= 0 or value & ~READABLE:
        described = f"{value:#05o}".replace("0o", "0") if value >= 0 else str(value)
        raise ValueError(f"is {described}, but a file of a read-only volume can only be readable")
    return value
