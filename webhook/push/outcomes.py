"""How a push ends: each end has a word for metrics and audit, and an HTTP status of its own where that says more."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kernelsecret.errors import Code, Refused


class Outcome(StrEnum):
    """The metric's label."""

    ACCEPTED = "accepted"
    UNKNOWN_SENDER = "unknown-sender"
    BAD_SIGNATURE = "bad-signature"
    SKEW = "skew"
    REPLAYED = "replayed"
    UNKNOWN_SECRET = "unknown-secret"  # noqa: S105 - an outcome
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    TOO_SLOW = "too-slow"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


STATUS: Final = MappingProxyType(
    {
        Outcome.ACCEPTED: 202,
        Outcome.UNKNOWN_SENDER: 401,
        Outcome.BAD_SIGNATURE: 401,
        Outcome.SKEW: 403,
        Outcome.REPLAYED: 409,
        Outcome.UNKNOWN_SECRET: 404,
        Outcome.MALFORMED: 400,
        Outcome.TOO_LARGE: 413,
        Outcome.TOO_SLOW: 408,
        Outcome.LIMITED: 429,
        Outcome.UNAVAILABLE: 503,
        Outcome.FAILED: 500,
    }
)
_CODES: Final = MappingProxyType(
    {
        Outcome.UNKNOWN_SENDER: Code.PERMISSION_DENIED,
        Outcome.BAD_SIGNATURE: Code.PERMISSION_DENIED,
        Outcome.SKEW: Code.PERMISSION_DENIED,
        Outcome.REPLAYED: Code.ALREADY_EXISTS,
        Outcome.UNKNOWN_SECRET: Code.NOT_FOUND,
        Outcome.LIMITED: Code.RESOURCE_EXHAUSTED,
        Outcome.UNAVAILABLE: Code.UNAVAILABLE,
        Outcome.FAILED: Code.INTERNAL,
    }
)
UNPROVEN: Final = frozenset(
    {Outcome.UNKNOWN_SENDER, Outcome.BAD_SIGNATURE, Outcome.MALFORMED, Outcome.TOO_LARGE, Outcome.TOO_SLOW}
)
"""Ends that anybody can bring about who reaches the port: the sender's name is a claim then."""


class PushRefused(Refused):
    """Why a push is not taken. `wait_s`: after so long it may be (Retry-After)."""

    def __init__(self, outcome: Outcome, field: str, why: str, fix: str = "", *, wait_s: float = 0.0) -> None:
        self.outcome = outcome
        self.wait_s = wait_s
        super().__init__(_CODES.get(outcome, Code.INVALID_ARGUMENT), field, why, fix)
