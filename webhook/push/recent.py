"""The pushes of one sender that were taken last, as all replicas know them. Pure.

Two replicas that take pushes of one sender write them in whatever order; by time alone those of one would look like
replays to the other.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from kernelsecret.push import Recent

SPAN_NS: Final = 3_000_000_000
"""How far apart in time pushes of one part are: so much late a push may come at least."""
MOST: Final = 4096
"""Of one part; a sender that sends more in that time may be late by less."""
IDLE_NS: Final = 30_000_000_000
"""After this time nothing is on its way any more."""
_BYTES: Final = 4
"""Two nonces that look the same, one time in a million, cost a sender one more push."""


def digest(nonce: str) -> bytes:
    """What is kept of a nonce."""
    return hashlib.blake2s(nonce.encode(), digest_size=_BYTES).digest()


def digests(recent: Recent) -> frozenset[bytes]:
    """Those of all pushes that are remembered."""
    both = recent.young + recent.old
    return frozenset(both[at : at + _BYTES] for at in range(0, len(both), _BYTES))


def last(recent: Recent) -> int:
    """The newest time that was taken of the sender, also of what was given up: its clocks need not agree."""
    return max(recent.newest, recent.newest_old, recent.after)


def taken(recent: Recent | None, time_ns: int, nonce: str) -> Recent:
    """With one more."""
    recent = recent or Recent(since=time_ns)
    if time_ns - recent.since >= SPAN_NS or len(recent.young) >= MOST * _BYTES:
        recent = Recent(
            old=recent.young,
            since=time_ns,
            newest_old=recent.newest,
            after=max(recent.after, recent.newest_old),
        )
    young, newest = recent.young + digest(nonce), max(recent.newest, time_ns)
    return msgspec.structs.replace(recent, young=young, newest=newest)


def idle(recent: Recent, now_ns: int | None = None) -> Recent:
    """The same without what needs room, where the sender has sent nothing for a while (at once without `now_ns`): then
    nothing is taken that is not newer than the last.
    """
    newest = max(recent.newest, recent.newest_old)
    if now_ns is not None and newest >= now_ns - IDLE_NS:
        return recent
    return Recent(since=newest, newest=newest, after=max(recent.after, newest))
