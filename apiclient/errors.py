"""What the API server, or the way to it, refused. Never a body: a Status message may quote what was sent."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kernelsecret.errors import Code, Refused

REASON_TIMEOUT: Final = "Timeout"
REASON_UNREACHABLE: Final = "Unreachable"
REASON_UNTRUSTED: Final = "CertificateNotTrusted"
REASON_TOO_LARGE: Final = "AnswerTooLarge"
REASON_UNREADABLE: Final = "AnswerUnreadable"
"""Reasons of our own, with status 0: no answer that could be used."""

GONE: Final = 410

_REASON = re.compile(r"[A-Za-z]{1,64}")
_RETRY_CAP_S = 60.0

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.PERMISSION_DENIED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    GONE: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    422: Code.INVALID_ARGUMENT,
    429: Code.UNAVAILABLE,
}

_FIXES = {
    401: "the credential is not accepted: look at the service account's token and whether the account still exists",
    403: "grant the verb on the resource to this service account (RBAC)",
    404: "see whether the object, and the kind, exist",
    409: "read the object again and repeat",
    GONE: "list again",
    429: "the API server is busy: it is tried again",
    REASON_TIMEOUT: "see whether the API server is overloaded",
    REASON_UNREACHABLE: "see whether the API server runs and its address is right",
    REASON_UNTRUSTED: "the API server's certificate is not signed by the CA that was given, or is for another name",
    REASON_TOO_LARGE: "ask for less at once",
}


class Status(msgspec.Struct, frozen=True):
    """The part of a Kubernetes Status that is used."""

    code: int = 0
    reason: str = ""


class ApiError(Refused):
    """A request that failed. `status` is the HTTP status, 0 where no usable answer came; `reason` is the Status's.

    `retry_after_s` is what the server asked to wait, None where it did not.
    """

    def __init__(self, request: str, status: int, reason: str = "", retry_after_s: float | None = None) -> None:
        self.status = status
        self.reason = reason if _REASON.fullmatch(reason) else ""
        self.retry_after_s = retry_after_s
        if status == 409 and self.reason == "AlreadyExists":
            code = Code.ALREADY_EXISTS
        elif status in _CODES:
            code = _CODES[status]
        elif 300 <= status < 500:
            code = Code.FAILED_PRECONDITION
        else:
            code = Code.UNAVAILABLE
        words = f"the API server answered {status}" if status else "no usable answer of the API server"
        fix = _FIXES.get(status) or _FIXES.get(self.reason) or ""
        super().__init__(code, request, words + (f" ({self.reason})" if self.reason else ""), fix)

    @property
    def is_gone(self) -> bool:
        """The resource version or the continue token is too old: list again."""
        return self.status == GONE


def from_answer(request: str, status: int, body: bytes, retry_after: str | None) -> ApiError:
    """The error of an HTTP answer; `body` may be anything, only a well-formed reason is taken from it."""
    try:
        reason = msgspec.json.decode(body, type=Status).reason
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        reason = ""
    wait = None
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        wait = min(float(retry_after[:6]), _RETRY_CAP_S)
    return ApiError(request, status, reason, wait)
