"""How long credentials without a lease are good, by what engines call it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Final

_MOST: Final = 10**10
"""No time of an engine is taken for a later one: it has to be told as a date."""


def life_of(data: Mapping[str, Any], lease_s: int, now: float) -> float:
    """For how many seconds credentials without a lease are good, by what engines call it; infinite where none says."""
    for key in ("expiration", "expires_at_seconds"):  # pki, gcp
        if (at := seconds(data.get(key))) > now:
            return at - now
    for key in ("ttl", "token_ttl"):  # identity, gcp
        if (left := seconds(data.get(key))) > 0:
            return left
    return float(lease_s) or inf


def seconds(value: object) -> float:
    """A number of seconds as an engine writes it, 0 where it is none."""
    if isinstance(value, bool):
        return 0.0
    if isinstance(value, int | float):
        return float(max(0, min(value, _MOST)))
    return min(float(value), _MOST) if isinstance(value, str) and value.isascii() and value.isdigit() else 0.0
