"""What Vault answers, typed; nothing of it shows in `repr`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from agent.sources.vault.errors import Kind, VaultError

T = TypeVar("T")
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NULL = (b"", b"null")


class Auth(msgspec.Struct, frozen=True):
    """What a login or the renewal of a token gives."""

    client_token: str = ""
    accessor: str = ""
    lease_duration: int = 0
    renewable: bool = False
    token_type: str = ""
    num_uses: int = 0

    def __repr__(self) -> str:
        return "Auth(...)"


class GivenToken(msgspec.Struct, frozen=True):
    """What Vault says of a token that looks itself up. `expire_time` is null for one without end."""

    ttl: int = 0
    accessor: str = ""
    renewable: bool = False
    type: str = ""
    num_uses: int = 0
    expire_time: str | None = None

    @property
    def ends(self) -> bool:
        """Whether it ends at all."""
        return self.expire_time is not None

    def __repr__(self) -> str:
        return "GivenToken(...)"


class Envelope(msgspec.Struct, frozen=True):
    """Every answer of Vault's API, as far as it is used."""

    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    data: msgspec.Raw = msgspec.Raw()
    warnings: tuple[str, ...] | None = None
    errors: tuple[str, ...] | None = None
    auth: Auth | None = None

    def __repr__(self) -> str:
        return "Envelope(...)"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `lease_s` is how long the lease lives, in seconds, 0 where there is none."""

    path: str
    raw: bytes = field(default=b"", repr=False)
    """The JSON of `data`; empty where there is none."""
    lease_id: str = field(default="", repr=False)
    lease_s: int = 0
    renewable: bool = False
    warnings: tuple[str, ...] = field(default=(), repr=False)
    token: str = ""
    """The short name (not the token) of the token that it was read with; a lease ends with that token."""

    @property
    def data(self) -> dict[str, Any]:
        """`data` as objects, decoded anew at each call; empty where there is none."""
        return self.data_as(dict[str, Any]) if self.raw else {}

    def data_as(self, kind: type[T]) -> T:
        """`data` as a typed Struct, which costs a fraction where only few fields matter.

        Raises VaultError (BAD_ANSWER) where it is of another form.
        """
        try:
            return _decoder(kind).decode(self.raw)
        except UNREADABLE:
            raise VaultError(
                Kind.BAD_ANSWER,
                self.path,
                "Vault's answer has another form than expected",
                "is it a Vault, 1.15 or newer?",
            ) from None


@dataclass(frozen=True, slots=True)
class Lease:
    """A renewed lease: from now on it lives `lease_s` seconds."""

    lease_id: str = field(repr=False)
    lease_s: int
    renewable: bool
    warnings: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Mount:
    """The secrets engine that serves a path. `path` ends with a slash; `version` is that of KV, 0 for other engines."""

    path: str
    type: str
    version: int

    @property
    def is_kv2(self) -> bool:
        """Whether its secrets have versions and metadata."""
        return self.type == "kv" and self.version == 2


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What is known of an identity's token. Times are seconds since the epoch.

    `ends_s` moves on with each renewal, and is infinite for a token without end. `name` is short and no secret, it is
    `Answer.token` of what was read with it.
    """

    name: str
    ends_s: float
    problem: str = ""
    """Why it could not be renewed, or another one not be had, the last time; empty where it could."""


def envelope(body: bytes) -> Envelope:
    """Decode an answer. Raises one of UNREADABLE, whose text must not be shown."""
    return _ENVELOPES.decode(body)


def answer(path: str, found: Envelope, token: str) -> Answer:
    """The answer to a read."""
    raw = bytes(found.data)
    return Answer(
        path,
        b"" if raw in _NULL else raw,
        found.lease_id,
        found.lease_duration,
        found.renewable,
        found.warnings or (),
        token,
    )


def given_token(answer: Any, where: str) -> GivenToken:
    """What a token's look at itself says. Raises VaultError (BAD_ANSWER) where it is none."""
    try:
        return msgspec.convert(answer["data"], GivenToken)
    except (msgspec.ValidationError, KeyError, TypeError):
        why = "the answer to a token's look at itself is none"
        raise VaultError(Kind.BAD_ANSWER, where, why, "is it Vault?") from None


def body_of(parameters: Mapping[str, Any]) -> bytes:
    """The JSON of a request."""
    return msgspec.json.encode(parameters)


_ENVELOPES = msgspec.json.Decoder(Envelope)
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    made = _DECODERS.get(kind)
    if made is None:
        made = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return made
