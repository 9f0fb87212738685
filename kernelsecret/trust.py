"""What the agents trust: the authorities of our certificates and the keys of registrations. Types only, no I/O here.

Published by the webhook as the ConfigMap `kernelsecret-trust`: public halves, nothing secret. While a key or an
authority is being changed, the old and the new one stand in it side by side.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

FIELD_AUTHORITIES: Final = "ca.crt"
"""Key of the ConfigMap: PEM, one or more authorities."""
FIELD_REGISTRATION_KEYS: Final = "registration-keys.json"
"""Key of the ConfigMap: a JSON list of `RegistrationKey`."""


class RegistrationKey(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One Ed25519 key: `public_key` is its 32 raw bytes (base64 in JSON), trusted until `not_after` (with a zone)."""

    id: str
    public_key: bytes
    not_after: datetime


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What one moment trusts. `authorities` is PEM."""

    authorities: str
    registration_keys: tuple[RegistrationKey, ...]
