"""The objects of the cluster that keep and publish keys: what is read of them, and how they are to be. No I/O here.

Each function that changes an object keeps all that it does not know, and the resource version that it was read at.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from certs.document import data_of
from certs.keys import KeyState
from kernelsecret.errors import Code, Refused
from kernelsecret.names import KEYS_OBJECT, TRUST_OBJECT
from kernelsecret.trust import FIELD_AUTHORITIES, FIELD_REGISTRATION_KEYS, Trust


@dataclass(frozen=True, slots=True)
class KeysObject:
    """The Secret as it was read: `data` is secret."""

    name: str
    resource_version: str
    data: Mapping[str, bytes] = field(repr=False)


class _Meta(msgspec.Struct, rename="camel", frozen=True):
    name: str = ""
    resource_version: str = ""


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, bytes] | None = None


def read_keys(raw: bytes) -> KeysObject | None:
    """The Secret of the keys, None for any other. Raises Refused for what is no Secret, without a word of it."""
    try:
        found = msgspec.json.decode(raw, type=_Secret)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused(Code.UNAVAILABLE, f"Secret {KEYS_OBJECT}", "the answer cannot be read") from None
    if found.metadata.name != KEYS_OBJECT:
        return None
    return KeysObject(found.metadata.name, found.metadata.resource_version, found.data or {})


def keys_body(raw: bytes | None, namespace: str, state: KeyState) -> bytes:
    """The Secret that keeps a state. `raw` is what is there, None where nothing is."""
    data = {key: base64.b64encode(value).decode() for key, value in data_of(state).items()}
    if raw is not None:
        return msgspec.json.encode(_decoded(raw, f"Secret {KEYS_OBJECT}") | {"data": data})
    metadata = {"name": KEYS_OBJECT, "namespace": namespace}
    return msgspec.json.encode(
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}
    )


def trust_body(raw: bytes | None, namespace: str, trust: Trust) -> bytes | None:
    """The ConfigMap as it must be, None where it is so. `raw` is what is there, None where nothing is."""
    data = {
        FIELD_AUTHORITIES: trust.authorities,
        FIELD_REGISTRATION_KEYS: msgspec.json.encode(trust.registration_keys).decode(),
    }
    if raw is None:
        metadata = {"name": TRUST_OBJECT, "namespace": namespace}
        return msgspec.json.encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    found = _decoded(raw, f"ConfigMap {TRUST_OBJECT}")
    if found.get("data") == data and "binaryData" not in found:
        return None
    found.pop("binaryData", None)
    return msgspec.json.encode(found | {"data": data})


def configuration_body(raw: bytes, bundle: str) -> bytes | None:
    """A webhook configuration with this bundle (PEM) in each of its webhooks, None where it has it already."""
    found = _decoded(raw, "webhook configuration")
    wanted = base64.b64encode(bundle.encode()).decode()
    changed = False
    for webhook in found.get("webhooks") or ():
        settings = webhook.setdefault("clientConfig", {})
        if settings.get("caBundle") != wanted:
            settings["caBundle"] = wanted
            changed = True
    return msgspec.json.encode(found) if changed else None


def _decoded(raw: bytes, what: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(Code.UNAVAILABLE, what, "the answer cannot be read")
    return found
