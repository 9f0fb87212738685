"""The keys as the data of a Secret, and back. No I/O here.

What cannot be read is refused, never replaced: a new authority would cut off everybody who trusts the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from certs.authority import Authority, load_authority
from certs.keys import Kept, KeyState, Stage, T, ordered
from certs.leaf import is_issued_by, load_leaf
from certs.signing import SigningKey, load_signing_key
from kernelsecret.errors import Code, Refused
from kernelsecret.names import KEYS_OBJECT

VERSION: Final = 1
KEY: Final = "state.json"
"""The only key of the Secret's data."""
LONGEST: Final = 256 * 1024
"""Bytes. A state in the middle of a rotation has 6,000."""

_FIX: Final = "restore it, or delete it: new keys are then made, and what the old ones signed is believed no more"


class _Stamps(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    made_at: datetime
    published_at: datetime | None = None
    used_from: datetime | None = None
    retired_at: datetime | None = None


class _Pair(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    certificate: str
    key: str


class _Authority(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    pair: _Pair
    stamps: _Stamps


class _SigningKey(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    private_key: bytes
    not_after: datetime
    stamps: _Stamps


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    version: int
    authorities: tuple[_Authority, ...]
    leaf: _Pair
    signing_keys: tuple[_SigningKey, ...]


class _Versioned(msgspec.Struct, frozen=True):
    version: int


_Read = TypeVar("_Read", _Document, _Versioned)


def data_of(state: KeyState) -> dict[str, bytes]:
    """The data of the Secret that keeps this state. Secret as a whole."""
    document = _Document(
        version=VERSION,
        authorities=tuple(
            _Authority(pair=_Pair(certificate=kept.item.certificate_pem, key=kept.item.key_pem), stamps=_stamps(kept))
            for kept in state.authorities
        ),
        leaf=_Pair(certificate=state.leaf.certificate_pem, key=state.leaf.key_pem),
        signing_keys=tuple(
            _SigningKey(private_key=kept.item.private_key, not_after=kept.item.not_after, stamps=_stamps(kept))
            for kept in state.signing_keys
        ),
    )
    return {KEY: msgspec.json.encode(document)}


def state_of(data: Mapping[str, bytes]) -> KeyState:
    """The state that such data keeps. Raises Refused, in words that show nothing of it, where anything is amiss."""
    if set(data) != {KEY}:
        raise _refused(f"must have the key {KEY} and no other")
    if len(data[KEY]) > LONGEST:
        raise _refused(f"longer than {LONGEST} bytes")
    version = _decoded(data[KEY], _Versioned).version
    if version != VERSION:
        raise _refused(f"not of version {VERSION}, the only one that is known here", "run the version that wrote it")
    document = _decoded(data[KEY], _Document)
    try:
        state = KeyState(
            authorities=_ring([_kept_authority(one) for one in document.authorities]),
            leaf=load_leaf(document.leaf.certificate, document.leaf.key),
            signing_keys=_ring([_kept_signing_key(one) for one in document.signing_keys]),
        )
        if not is_issued_by(state.leaf.certificate_pem, state.authority.certificate_pem):
            raise Refused(Code.INVALID_ARGUMENT, "leaf", "is not by the authority in use")
        return state
    except Refused as refused:
        raise _refused(f"{refused.field}: {refused.why}") from None


def _decoded(raw: bytes, kind: type[_Read]) -> _Read:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # No word of the decoder's: it may quote what it read.
        raise _refused("not as this program writes it") from None


def _kept_authority(found: _Authority) -> Kept[Authority]:
    return _with_stamps(load_authority(found.pair.certificate, found.pair.key), found.stamps)


def _kept_signing_key(found: _SigningKey) -> Kept[SigningKey]:
    if found.not_after.tzinfo is None:
        raise Refused(Code.INVALID_ARGUMENT, "signingKeys", "a time has no time zone")
    return _with_stamps(load_signing_key(found.private_key, found.not_after, "signingKeys"), found.stamps)


def _with_stamps(item: T, stamps: _Stamps) -> Kept[T]:
    kept = Kept(item, stamps.made_at, stamps.published_at, stamps.used_from, stamps.retired_at)
    if any(moment and moment.tzinfo is None for moment in (kept.made_at, *_moments(kept))):
        raise Refused(Code.INVALID_ARGUMENT, "stamps", "a time has no time zone")
    return kept


def _ring(found: list[Kept[T]]) -> tuple[Kept[T], ...]:
    if sum(kept.stage is Stage.CURRENT for kept in found) != 1:
        raise Refused(Code.INVALID_ARGUMENT, "stamps", "exactly one authority and one signing key must be in use")
    return ordered(found)


def _stamps(kept: Kept[T]) -> _Stamps:
    published_at, used_from, retired_at = _moments(kept)
    return _Stamps(made_at=kept.made_at, published_at=published_at, used_from=used_from, retired_at=retired_at)


def _moments(kept: Kept[T]) -> tuple[datetime | None, datetime | None, datetime | None]:
    return kept.published_at, kept.used_from, kept.retired_at


def _refused(why: str, fix: str = _FIX) -> Refused:
    return Refused(Code.FAILED_PRECONDITION, f"Secret {KEYS_OBJECT}", why, fix)
