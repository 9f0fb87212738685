"""The one error hierarchy of the product. No I/O here, and never a secret's value in a message.

A refusal names the field that is wrong and what would mend it, because the reader is an operator
who sees it in a pod's events and has nothing else to go by.
"""

from __future__ import annotations

import errno
from enum import Enum


class Code(Enum):
    """Why a request was refused, in gRPC's words (the CSI door maps them one to one)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"


class KernelSecretError(Exception):
    """Base of everything that our daemons raise on purpose."""


class Refused(KernelSecretError):
    """A request that cannot be granted: `field` is what to look at, `why` what is wrong, `fix` what would mend it."""

    def __init__(self, code: Code, field: str, why: str, fix: str = "") -> None:
        self.code = code
        self.field = field
        self.why = why
        self.fix = fix
        super().__init__(f"{field}: {why}" + (f"; {fix}" if fix else ""))


def said(error: BaseException) -> str:
    """What may be shown of an error: our own words; of a foreign one only its class and errno."""
    if isinstance(error, KernelSecretError):
        return str(error)
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ + (f" ({errno.errorcode.get(number, number)})" if number else "")
