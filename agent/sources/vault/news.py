"""What the ways of reading a secret have in common: what they need, and what they find. No I/O here."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from agent.model import Safe, SecretRef
from agent.vault_ref import Identity, VaultRequest, request_of
from kernelsecret.errors import Code, Refused

_LABEL_KEY = "vault-label-key"


@dataclass(frozen=True, slots=True)
class News:
    """A version that was not there at the last look."""

    values: Mapping[str, bytes] = field(repr=False)
    label: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One secret as it is asked for: `name` is what it is called in refusals."""

    ref: SecretRef
    request: VaultRequest

    @property
    def name(self) -> str:
        """For people."""
        return str(self.ref)

    @property
    def identity(self) -> Identity:
        """As whom it is read."""
        return self.request.identity

    @property
    def path(self) -> str:
        """Of Vault's API, as the interceptor has it."""
        return self.request.source.path


def asked(ref: SecretRef) -> Asked:
    """Raises Refused (INVALID_ARGUMENT) for what is no reference to Vault."""
    try:
        return Asked(ref, request_of(ref))
    except ValueError as error:
        raise Refused(Code.INVALID_ARGUMENT, str(ref), "is no reference to a secret in Vault") from error


class Labels:
    """Names of versions for what Vault has none for: a short keyed hash, the same after a restart of the agent, and of
    no use to whoever tries values."""

    def __init__(self, safe: Safe) -> None:
        key = safe.get(_LABEL_KEY)
        if key is None:
            key = secrets.token_bytes(32)
            with suppress(Refused):  # labels are then other ones after a restart, which nothing relies on
                safe.put(_LABEL_KEY, key)
        self._key = key

    def of(self, kind: str, data: bytes) -> str:
        """Like `content 9af1c2e0`."""
        return f"{kind} {hashlib.blake2b(data, key=self._key, digest_size=4).hexdigest()}"

    def of_values(self, kind: str, values: Mapping[str, bytes]) -> str:
        """By what is in all keys."""
        parts = (part for key, value in sorted(values.items()) for part in (key.encode(errors="replace"), value))
        return self.of(kind, b"".join(len(part).to_bytes(8, "big") + part for part in parts))


def steady_wall_clock() -> Callable[[], float]:
    """Seconds since the epoch as of now, which from now on only grow: what the node's clock does later is no lease's
    concern."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
