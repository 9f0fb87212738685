"""What Vault, or the way to it, refused: one kind each, in words that name what to change. Pure.

Never a body, a value or a token: of an answer only Vault's own `errors` are shown, cut and with whatever looks like a
credential taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

from kernelsecret.errors import Code, Refused
from kernelsecret.problems import shown

if TYPE_CHECKING:
    from agent.sources.vault.answers import Answer


class Kind(StrEnum):
    """Why nothing came; the label `kind` of kernelsecret_source_errors_total."""

    SEALED = "sealed"
    STANDBY = "standby"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    TLS_UNTRUSTED = "tls-untrusted"
    TLS_HOST = "tls-host"
    TLS_EXPIRED = "tls-expired"
    TLS_REVOKED = "tls-revoked"
    TLS_CRL = "tls-crl"
    TLS_TOO_OLD = "tls-too-old"
    TLS_CLIENT = "tls-client"
    TLS = "tls"
    THROTTLED = "throttled"
    DENIED = "denied"
    NOT_FOUND = "not-found"
    BAD_REQUEST = "bad-request"
    BAD_ANSWER = "bad-answer"
    LOGIN = "login"
    NO_CREDENTIAL = "no-credential"


TLS_KINDS: Final = frozenset(kind for kind in Kind if kind.value.startswith("tls"))
AWAY: Final = TLS_KINDS | {Kind.SEALED, Kind.STANDBY, Kind.UNAVAILABLE, Kind.TIMEOUT}
"""Kinds that are Vault's as a whole, not one secret's."""

_CODES = {
    Kind.DENIED: Code.PERMISSION_DENIED,
    Kind.LOGIN: Code.PERMISSION_DENIED,
    Kind.NOT_FOUND: Code.NOT_FOUND,
    Kind.BAD_REQUEST: Code.INVALID_ARGUMENT,
    Kind.BAD_ANSWER: Code.FAILED_PRECONDITION,
}

_CREDENTIALS = re.compile(
    r"\b(?:hv[sbr]|[sbr])\.[\w-]{8,}(?:\.[\w-]+)*"  # tokens of Vault, new and old
    r"|\beyJ[\w-]*\.[\w-]*(?:\.[\w-]*)?"  # JWTs
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # secret ids, accessors
    r"|://[^/\s@]*@"  # the user of a connection string
)
_LONGEST = 240


class VaultError(Refused):
    """`kind` says what happened. `retry_after_s` is how long Vault asked to wait (429), None where it did not.

    `answer` is what came with a 404, which Vault gives for a deleted version too: its metadata is in there. `certain`:
    Vault as a whole does not serve, there is no need to look. `counted`: the metric has it already.
    """

    def __init__(
        self,
        kind: Kind,
        field: str,
        why: str,
        fix: str = "",
        *,
        retry_after_s: float | None = None,
        answer: Answer | None = None,
        certain: bool = False,
    ) -> None:
        self.kind = kind
        self.counted = False
        self.certain = certain
        self.retry_after_s = retry_after_s
        self.answer = answer
        super().__init__(_CODES.get(kind, Code.UNAVAILABLE), field, why, fix)

    @property
    def is_away(self) -> bool:
        """Whether it is Vault, or the way to it, and not this secret."""
        return self.kind in AWAY


def said_by_vault(errors: Iterable[str], hide: Iterable[str] = ()) -> str:
    """Vault's own words, fit for one line of a message; `hide` are secrets that were sent, and could be quoted."""
    text = "; ".join(" ".join(error.split()) for error in errors)
    for form in sorted({form for secret in hide for form in _forms(secret)}, key=len, reverse=True):
        text = text.replace(form, "...")
    return shown(_CREDENTIALS.sub("...", text), _LONGEST)


def _forms(secret: str) -> Iterable[str]:
    """How a text may be quoted: as it is, by Go or JSON, in a URL; each in one line, as `said_by_vault` makes it."""
    for form in (secret, json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe=""), quote_plus(secret)):
        if line := " ".join(form.split()):
            yield line
