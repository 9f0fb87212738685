from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from certs.signing import (
    LONGEST_LIFETIME,
    SigningKey,
    load_signing_key,
    new_signing_key,
    open_registration,
    sign_registration,
)
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import SignedRegistration
from kernelsecret.trust import RegistrationKey
from tests.unit.certs.samples import DAY, NOW, registration

KEY = new_signing_key(NOW + 60 * DAY)
OTHER = new_signing_key(NOW + 60 * DAY)
SIGNED = sign_registration(KEY, registration())


def signed_raw(payload: bytes, key: SigningKey = KEY) -> SignedRegistration:
    signature = Ed25519PrivateKey.from_private_bytes(key.private_key).sign(payload)
    return SignedRegistration(key_id=key.id, payload=payload, signature=signature)


def refusal(
    signed: SignedRegistration, keys: tuple[RegistrationKey, ...] = (OTHER.public, KEY.public), now: datetime = NOW
) -> Refused:
    with pytest.raises(Refused) as refused:
        open_registration(signed, keys, now)
    return refused.value


def test_what_was_signed_is_opened_as_it_was() -> None:
    assert open_registration(SIGNED, [OTHER.public, KEY.public], NOW) == registration()


def test_the_envelope_survives_the_wire() -> None:
    wire = msgspec.json.decode(msgspec.json.encode(SIGNED), type=SignedRegistration)
    assert open_registration(wire, [KEY.public], NOW) == registration()


def test_an_unknown_key_is_refused() -> None:
    refused = refusal(SIGNED, (OTHER.public,))
    assert (refused.code, refused.field, refused.why) == (Code.PERMISSION_DENIED, "keyId", "no such key is trusted")
    assert refusal(SIGNED, ()).field == "keyId"


@pytest.mark.parametrize("not_after", [NOW, NOW - DAY, (NOW + DAY).replace(tzinfo=None)])
def test_an_expired_key_is_refused(not_after: datetime) -> None:
    trusted = RegistrationKey(id=KEY.id, public_key=KEY.public.public_key, not_after=not_after)
    assert str(refusal(SIGNED, (trusted,))) == "keyId: the key has expired; sign with the current key"


def test_a_key_that_is_none_is_refused() -> None:
    trusted = RegistrationKey(id=KEY.id, public_key=b"short", not_after=NOW + DAY)
    assert refusal(SIGNED, (trusted,)).code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize("at", [0, 31, 63])
def test_a_changed_signature_is_refused(at: int) -> None:
    signature = bytearray(SIGNED.signature)
    signature[at] ^= 1
    refused = refusal(msgspec.structs.replace(SIGNED, signature=bytes(signature)))
    assert (refused.code, refused.field) == (Code.PERMISSION_DENIED, "signature")


@given(st.integers(0, len(SIGNED.payload) - 1), st.integers(1, 255))
def test_a_changed_payload_is_refused(at: int, by: int) -> None:
    payload = bytearray(SIGNED.payload)
    payload[at] ^= by
    assert refusal(msgspec.structs.replace(SIGNED, payload=bytes(payload))).field == "signature"


def test_a_key_cannot_be_passed_off_as_another() -> None:
    assert refusal(msgspec.structs.replace(SIGNED, key_id=OTHER.id)).field == "signature"


@pytest.mark.parametrize("length", [0, 63, 65, 1_000_000])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    refused = refusal(msgspec.structs.replace(SIGNED, signature=b"s" * length))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "signature")


def test_an_envelope_of_another_version_is_refused() -> None:
    assert refusal(msgspec.structs.replace(SIGNED, version=2)).field == "version"


def test_a_registration_of_another_version_is_refused() -> None:
    assert refusal(sign_registration(KEY, registration(version=2))).field == "payload.version"


def test_a_payload_that_is_too_long_is_refused_before_it_is_verified() -> None:
    refused = refusal(signed_raw(b" " * 4097))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "payload")
    with pytest.raises(Refused, match=r"^payload: longer than"):
        sign_registration(KEY, registration(name="n" * 5000))


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "payload"),
        (b"{", "payload"),
        (b"\xff\xfe", "payload"),
        (b'"\xed\xa0\x80"', "payload"),
        (b"[" * 4000, "payload"),
        (b"[]", "payload.(the whole object)"),
        (b"{}", "payload.podUid"),
        (SIGNED.payload.replace(b'"nonce"', b'"nonse"'), "payload.nonse"),
        (SIGNED.payload.replace(b"00Z", b"00"), "payload.expiresAt"),
        (SIGNED.payload.replace(b'"payments"', b"7"), "payload.namespace"),
    ],
)
def test_a_payload_that_is_no_registration_is_refused_although_it_is_signed(payload: bytes, field: str) -> None:
    refused = refusal(signed_raw(payload))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, field)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), 400 * DAY])
def test_an_expired_registration_is_refused(late: timedelta) -> None:
    now = registration().expires_at + late
    trusted = RegistrationKey(id=KEY.id, public_key=KEY.public.public_key, not_after=NOW + 9999 * DAY)
    refused = refusal(SIGNED, (trusted,), now)
    assert (refused.code, refused.field) == (Code.PERMISSION_DENIED, "payload.expiresAt")


def test_a_registration_that_would_be_good_for_too_long_is_refused() -> None:
    open_registration(sign_registration(KEY, registration(expires_at=NOW + LONGEST_LIFETIME)), [KEY.public], NOW)
    refused = refusal(sign_registration(KEY, registration(expires_at=NOW + LONGEST_LIFETIME + timedelta(minutes=2))))
    assert (refused.code, refused.field) == (Code.PERMISSION_DENIED, "payload.expiresAt")


def test_nothing_is_signed_that_outlives_its_key() -> None:
    with pytest.raises(Refused, match=r"^key: expires before the registration does"):
        sign_registration(new_signing_key(NOW + timedelta(minutes=9)), registration())


def test_a_refusal_shows_nothing_of_what_was_sent() -> None:
    payload = SIGNED.payload.replace(b"payments-db", b"s3cr3t-canary").replace(b'"nonce":"0', b'"nonce":7,"x":"')
    assert "canary" not in str(refusal(signed_raw(payload)))
    assert "canary" not in str(refusal(msgspec.structs.replace(SIGNED, key_id="canary")))


def test_no_key_is_shown() -> None:
    assert repr(KEY.private_key) not in repr(KEY)
    assert "private_key" not in repr(KEY)
    assert KEY.private_key.hex() not in repr(KEY)


def test_a_kept_key_has_the_same_id() -> None:
    assert load_signing_key(KEY.private_key, KEY.not_after) == KEY
    assert KEY.id != OTHER.id
    with pytest.raises(Refused, match=r"^key: must have 32 bytes$"):
        load_signing_key(b"short", NOW)
