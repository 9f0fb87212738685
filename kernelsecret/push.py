"""The push: somebody signed says that secrets have changed, and every agent looks at once. The wire of it, both ways.

POST `PATH_PUSH` at the webhook's port 8443: a JSON body, and four headers that say who sends it, when, and sign both.
What was accepted stands in the ConfigMap `names.NOTICES_OBJECT`, which every agent watches. No value is in any of it,
and nothing is believed of it: a notice makes an agent ask the source. Pure, no I/O here.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import InterceptorSpec, SecretSource
from kernelsecret.problems import quoted

PATH_PUSH: Final = "/v1/push"
HEADER_SENDER: Final = "KernelSecret-Sender"
HEADER_TIME: Final = "KernelSecret-Time"
HEADER_NONCE: Final = "KernelSecret-Nonce"
HEADER_SIGNATURE: Final = "KernelSecret-Signature"

MAX_PUSH: Final = 64 * 1024
"""Bytes of a body."""
MAX_SECRETS: Final = 64
"""Secrets in one."""
MAX_SECRET_PATH: Final = 1024
"""Letters of a secret's path."""
SKEW_S: Final = 300
"""A push is refused whose time is further than this from the webhook's clock."""
MIN_KEY: Final = 32
MAX_KEY: Final = 1024
"""Bytes of a sender's key. All bytes count, a newline at its end too."""

FIELD_NOTICES: Final = "notices.json"
"""Key of the ConfigMap's data: a `Board` in JSON."""
SOURCES: Final = SecretSource.__struct_fields__

_DOMAIN: Final = b"kernelsecret-push-v1"
_SENDER: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_TIME: Final = re.compile(r"[0-9]{19}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


class PushedSecret(msgspec.Struct, forbid_unknown_fields=True, frozen=True, order=True):
    """A secret as interceptors name it: the field of `source` that is set, and its path (a Secret's name)."""

    source: str
    path: str

    def __str__(self) -> str:
        return f"{self.source}:{self.path}"


class Push(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The body."""

    secrets: tuple[PushedSecret, ...]


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, with status 202: so many secrets are told to every agent."""

    notices: int


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A secret was said to have changed. `revision` is another one each time; `told` has the newest time (nanoseconds
    since 1970) that was taken, by sender."""

    source: str
    path: str
    revision: int
    told: dict[str, int] = {}


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """The pushes of one sender that were taken last, by 4 bytes of each nonce's hash, in two parts of which the older
    one is given up. So one that comes late (pushes overtake each other) is told from one that comes again. `since` is
    when `young` began, the newest times are those in each part; of what was given up none was newer than `after`."""

    young: bytes = b""
    old: bytes = b""
    since: int = 0
    newest: int = 0
    newest_old: int = 0
    after: int = 0


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """All notices that are remembered, oldest revision first. Of a sender in `floors` nothing is taken that is not
    newer than that time: notices of that age were given up to make room."""

    notices: tuple[Notice, ...] = ()
    floors: dict[str, int] = {}
    recent: dict[str, Recent] = {}


def signed_text(sender: str, time: str, nonce: str, body: bytes) -> bytes:
    """What is signed: five parts, each but the last ended by a newline."""
    return b"\n".join((_DOMAIN, sender.encode(), time.encode(), nonce.encode(), body))


def signature(key: bytes, sender: str, time: str, nonce: str, body: bytes) -> str:
    """HMAC-SHA256 of it in lower-case hexadecimal."""
    return hmac.new(key, signed_text(sender, time, nonce, body), hashlib.sha256).hexdigest()


def signed_headers(key: bytes, sender: str, time_ns: int, nonce: str, body: bytes) -> dict[str, str]:
    """The headers of a push, signed. `time_ns` is since 1970; the nonce is another one each time."""
    time = str(time_ns)
    return {
        HEADER_SENDER: sender,
        HEADER_TIME: time,
        HEADER_NONCE: nonce,
        HEADER_SIGNATURE: signature(key, sender, time, nonce, body),
    }


def is_signed(key: bytes, sender: str, time: str, nonce: str, body: bytes, claimed: str) -> bool:
    """Whether the signature is right, in a time that says nothing of how wrong it is."""
    return hmac.compare_digest(signature(key, sender, time, nonce, body), claimed)


def secret_of(text: str) -> PushedSecret:
    """A secret as people write it: `vault:secret/data/payments/db`. Raises Refused."""
    source, _, path = text.partition(":")
    secret = PushedSecret(source, path)
    if problem := secret_problem(secret):
        why = f"{quoted(text)} is not SOURCE:PATH, {problem}"
        fix = "write it as the interceptor names it, for example vault:secret/data/payments/db"
        raise Refused(Code.INVALID_ARGUMENT, "secret", why, fix)
    return secret


def secret_problem(secret: PushedSecret) -> str | None:
    """Why this can be no interceptor's secret, None where it can."""
    if secret.source not in SOURCES:
        return f"the source is none of {', '.join(SOURCES)}"
    if not 0 < len(secret.path) <= MAX_SECRET_PATH:
        return f"the path has not 1 to {MAX_SECRET_PATH} letters"
    return None


def key_problem(key: bytes) -> str | None:
    """Why a key is not taken, None where it is."""
    if len(key) < MIN_KEY:
        return f"has {len(key)} bytes and must have {MIN_KEY} at least: anybody could guess it"
    if len(key) > MAX_KEY:
        return f"has more than {MAX_KEY} bytes"
    return "is one byte over and over" if len(set(key)) == 1 else None


def sender_problem(text: str) -> str | None:
    """Why a text names no sender, None where it can."""
    return None if _SENDER.fullmatch(text) else "is not 1 to 63 lower-case letters, digits, '-', '_' and '.'"


def nonce_problem(text: str) -> str | None:
    """Why a text is no nonce, None where it is one."""
    return None if _NONCE.fullmatch(text) else "is not 16 to 64 letters, digits, '-' and '_'"


def time_problem(text: str) -> str | None:
    """Why a text is no time, None where it is one."""
    return None if _TIME.fullmatch(text) else "is not nanoseconds since 1970 (19 digits), as `date +%s%N` prints them"


def signature_problem(text: str) -> str | None:
    """Why a text is no signature, None where it is one."""
    return None if _SIGNATURE.fullmatch(text) else "is not 64 lower-case hexadecimal digits"


def named_secrets(specs: Iterable[InterceptorSpec]) -> frozenset[PushedSecret]:
    """All secrets that interceptors name."""
    return frozenset(found for spec in specs for secret in spec.secrets if (found := _named(secret.source)))


def _named(source: SecretSource) -> PushedSecret | None:
    if source.file:
        return PushedSecret("file", source.file.path)
    if source.vault:
        return PushedSecret("vault", source.vault.path)
    if source.kubernetes:
        return PushedSecret("kubernetes", source.kubernetes.name)
    return None
