"""Registrations signed and opened: Ed25519 over the payload as it stands. No I/O here; times are given.

`open_registration` is the door for what anybody on the network may send. It says which part was wrong, in constant
words: nothing of what was sent comes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kernelsecret.errors import Code, Refused
from kernelsecret.problems import Invalid
from kernelsecret.registration import VERSION, Registration, SignedRegistration, read_registration
from kernelsecret.trust import RegistrationKey

LONGEST_LIFETIME: Final = timedelta(hours=1)
"""No registration may be good for longer than this from now: it bounds what agents must remember against replay."""
LONGEST_PAYLOAD: Final = 4096
"""Bytes. The longest names that Kubernetes has make 1,400."""
_SKEW: Final = timedelta(minutes=1)
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key: `private_key` is its 32 raw bytes. What it signed is accepted until `not_after` (UTC)."""

    id: str
    private_key: bytes = field(repr=False)
    not_after: datetime

    @property
    def public(self) -> RegistrationKey:
        """What the agents are told of it."""
        return RegistrationKey(id=self.id, public_key=_public(self.private_key), not_after=self.not_after)


def new_signing_key(not_after: datetime) -> SigningKey:
    """A new key, whose id is made from its public half."""
    return load_signing_key(Ed25519PrivateKey.generate().private_bytes_raw(), not_after)


def load_signing_key(private_key: bytes, not_after: datetime, field: str = "key") -> SigningKey:
    """A key that was kept. Raises Refused unless it has 32 bytes."""
    if len(private_key) != 32:
        raise Refused(Code.INVALID_ARGUMENT, field, "must have 32 bytes")
    return SigningKey(hashlib.sha256(_public(private_key)).hexdigest()[:16], private_key, not_after)


def sign_registration(key: SigningKey, registration: Registration) -> SignedRegistration:
    """The registration in its envelope. Raises Refused where the key is no longer accepted before it expires."""
    if registration.expires_at > key.not_after:
        raise Refused(Code.FAILED_PRECONDITION, "key", "expires before the registration does", "sign with a newer key")
    payload = msgspec.json.encode(registration)
    if len(payload) > LONGEST_PAYLOAD:
        raise Refused(Code.INVALID_ARGUMENT, "payload", f"longer than {LONGEST_PAYLOAD} bytes")
    signature = Ed25519PrivateKey.from_private_bytes(key.private_key).sign(payload)
    return SignedRegistration(key_id=key.id, payload=payload, signature=signature)


def open_registration(signed: SignedRegistration, keys: Sequence[RegistrationKey], now: datetime) -> Registration:
    """The registration that a trusted key signed and that is good now. Raises Refused with the field that was wrong.

    INVALID_ARGUMENT is for what is not formed as it must be, PERMISSION_DENIED for what is not believed.
    """
    if signed.version != VERSION:
        raise Refused(Code.INVALID_ARGUMENT, "version", f"not {VERSION}, the only version that is known here")
    if len(signed.payload) > LONGEST_PAYLOAD:
        raise Refused(Code.INVALID_ARGUMENT, "payload", f"longer than {LONGEST_PAYLOAD} bytes")
    if len(signed.signature) != _SIGNATURE_BYTES:
        raise Refused(Code.INVALID_ARGUMENT, "signature", f"must have {_SIGNATURE_BYTES} bytes")
    _verify(signed, _trusted(signed.key_id, keys, now))
    registration = _read(signed.payload)
    if registration.expires_at <= now:
        raise Refused(Code.PERMISSION_DENIED, "payload.expiresAt", "has passed", "ask for a new registration")
    if registration.expires_at - now > LONGEST_LIFETIME + _SKEW:
        why = f"more than {LONGEST_LIFETIME} ahead"
        raise Refused(Code.PERMISSION_DENIED, "payload.expiresAt", why, "compare the clocks of webhook and node")
    return registration


def _trusted(key_id: str, keys: Sequence[RegistrationKey], now: datetime) -> RegistrationKey:
    key = next((one for one in keys if one.id == key_id), None)
    if key is None:
        raise Refused(Code.PERMISSION_DENIED, "keyId", "no such key is trusted", "see the ConfigMap of trusted keys")
    if key.not_after.tzinfo is None or key.not_after <= now:
        raise Refused(Code.PERMISSION_DENIED, "keyId", "the key has expired", "sign with the current key")
    return key


def _verify(signed: SignedRegistration, key: RegistrationKey) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signed.signature, signed.payload)
    except ValueError:
        raise Refused(Code.FAILED_PRECONDITION, "keyId", "the trusted key is not an Ed25519 key") from None
    except InvalidSignature:
        raise Refused(Code.PERMISSION_DENIED, "signature", "is not by that key") from None


def _read(payload: bytes) -> Registration:
    try:
        return read_registration(msgspec.json.decode(payload))
    except Invalid as invalid:
        problem = invalid.problems[0]
        raise Refused(Code.INVALID_ARGUMENT, f"payload.{problem.field}", "is not as it must be") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.INVALID_ARGUMENT, "payload", "is not JSON") from None


def _public(private_key: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()
