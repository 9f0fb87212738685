"""Whom this node believes: the ConfigMap that the webhook publishes, as it stands now. What is damaged in it changes
nothing: the last good one goes on being believed, because an agent that trusted nobody could not be mended.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from certs.authority import require_authority
from certs.pem import read_certificates
from kernelsecret.errors import Code, Refused
from kernelsecret.names import SYSTEM_NAMESPACE, TRUST_OBJECT
from kernelsecret.problems import Invalid, Problem
from kernelsecret.trust import FIELD_AUTHORITIES, FIELD_REGISTRATION_KEYS, RegistrationKey, Trust
from telemetry.logkeys import Event
from telemetry.logs import get_logger

KEY_BYTES = 32
MOST_KEYS = 16

log = get_logger("registrations")


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, str] = {}


_object = msgspec.json.Decoder(_ConfigMap)
_keys = msgspec.json.Decoder(tuple[RegistrationKey, ...])


def read_trust(raw: bytes) -> Trust | None:
    """What the ConfigMap says, None for another object. Raises Refused that names every problem."""
    try:
        return _read(raw)
    except Invalid as invalid:
        fix = "the webhook writes it anew at its next change; see its log"
        raise Refused(Code.FAILED_PRECONDITION, TRUST_OBJECT, str(invalid), fix) from None


def _read(raw: bytes) -> Trust | None:
    try:
        found = _object.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Invalid([Problem("(the whole object)", "is not a ConfigMap")]) from None
    if (found.metadata.namespace, found.metadata.name) != (SYSTEM_NAMESPACE, TRUST_OBJECT):
        return None
    authorities = found.data.get(FIELD_AUTHORITIES, "")
    problems: list[Problem] = []
    try:
        for certificate in read_certificates(authorities, f"data[{FIELD_AUTHORITIES}]"):
            require_authority(certificate, f"data[{FIELD_AUTHORITIES}]")
    except Refused as refused:
        problems.append(Problem(refused.field, refused.why))
    keys: tuple[RegistrationKey, ...] = ()
    try:
        keys = _keys.decode(found.data.get(FIELD_REGISTRATION_KEYS, ""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problems.append(Problem(f"data[{FIELD_REGISTRATION_KEYS}]", "is not a JSON list of keys"))
    else:
        problems += _key_problems(keys)
    if problems:
        raise Invalid(problems)
    return Trust(authorities=authorities, registration_keys=keys)


def _key_problems(keys: tuple[RegistrationKey, ...]) -> list[Problem]:
    at = f"data[{FIELD_REGISTRATION_KEYS}]"
    if not 1 <= len(keys) <= MOST_KEYS:
        return [Problem(at, f"has {len(keys)} keys, must have 1 to {MOST_KEYS}")]
    problems = []
    for index, key in enumerate(keys):
        if not key.id:
            problems.append(Problem(f"{at}[{index}].id", "empty"))
        if len(key.public_key) != KEY_BYTES:
            problems.append(Problem(f"{at}[{index}].publicKey", f"has not {KEY_BYTES} bytes"))
        if key.not_after.tzinfo is None:
            problems.append(Problem(f"{at}[{index}].notAfter", "has no time zone"))
    if len({key.id for key in keys}) != len(keys):
        problems.append(Problem(at, "two keys have the same id"))
    return problems


class TrustView:
    """The newest good trust. `on_change` hears of each that differs from the one before; where it cannot use it, it
    raises Refused, and the one before stays.
    """

    def __init__(self, on_change: Callable[[Trust], None]) -> None:
        self._on_change = on_change
        self._trust: Trust | None = None

    @property
    def keys(self) -> tuple[RegistrationKey, ...]:
        """The keys that may have signed a registration; none before the first trust."""
        return self._trust.registration_keys if self._trust else ()

    @property
    def is_known(self) -> bool:
        """Whether there was ever a good one."""
        return self._trust is not None

    def changed(self, _key: str, _old: Trust | None, new: Trust | None) -> None:
        """The reflector's word: None where the object is gone or damaged."""
        if new is None:
            log.warning(Event.TRUST_UNREADABLE, why="gone or damaged; the last good one is kept")
        elif new != self._trust:
            before, self._trust = self._trust, new
            try:
                self._on_change(new)
            except BaseException:
                self._trust = before
                raise
            log.info(Event.TRUST_CHANGED, keys=len(new.registration_keys))
