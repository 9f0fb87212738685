"""The registration: a statement of admission that this pod, on this node, was given this interceptor. No I/O here.

It is a claim. The agent believes none of it that its own view of the cluster does not confirm.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from kernelsecret.problems import Invalid, Problem, from_decoder, quoted

VERSION = 1

LIFETIME_S = 600
"""From signing to expiry: long enough for a hand-over and a slow mount, short enough to remember every nonce."""
NONCE_BYTES = 16
"""Random bytes of a nonce, written as hexadecimal digits."""


class Registration(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What was decided at admission and binding. `expires_at` has a time zone; `nonce` is used once."""

    pod_uid: str
    namespace: str
    name: str
    service_account: str
    interceptor: str
    node: str
    expires_at: datetime
    nonce: str
    version: int = VERSION


class SignedRegistration(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The envelope: `payload` is the Registration as JSON, exactly as signed; `key_id` names the Ed25519 key."""

    key_id: str
    payload: bytes
    signature: bytes
    version: int = VERSION


def read_registration(thing: object) -> Registration:
    """A Registration from what a JSON or YAML reader made of it. Raises Invalid with every problem found."""
    try:
        registration = msgspec.convert(thing, Registration)
    except msgspec.ValidationError as error:
        raise Invalid([from_decoder(str(error))]) from None
    problems = registration_problems(registration)
    if problems:
        raise Invalid(problems)
    return registration


def registration_problems(registration: Registration) -> list[Problem]:
    """Everything that is wrong with a registration, in the order of its fields."""
    problems = [
        Problem(field, "empty")
        for field, value in (
            ("podUid", registration.pod_uid),
            ("namespace", registration.namespace),
            ("name", registration.name),
            ("serviceAccount", registration.service_account),
            ("interceptor", registration.interceptor),
            ("node", registration.node),
        )
        if not value
    ]
    if registration.expires_at.tzinfo is None:
        problems.append(Problem("expiresAt", "has no time zone", "write UTC, as in 2030-01-01T00:00:00Z"))
    if not 16 <= len(registration.nonce) <= 128:
        problems.append(Problem("nonce", "must have 16 to 128 characters"))
    if registration.version != VERSION:
        why = f"{quoted(str(registration.version))} is not {VERSION}, the only version that is known here"
        problems.append(Problem("version", why))
    return problems
