"""The senders' keys: one entry of a Secret each, followed live. A key that could be guessed counts for nothing.

Nothing of a key is in a `repr`, an error or the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.reflector import Reflector
from kernelsecret.names import PUSH_KEYS_OBJECT
from kernelsecret.problems import quoted
from kernelsecret.push import HEADER_SENDER, MIN_KEY, key_problem, sender_problem
from telemetry.logkeys import Event
from telemetry.logs import get_logger
from webhook.push.outcomes import Outcome, PushRefused

MOST_SENDERS: Final = 256

log = get_logger("push")


@dataclass(frozen=True, slots=True)
class Keys:
    """What the Secret has: usable keys by sender, and why the others are not used."""

    usable: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    refused: Mapping[str, str] = field(default_factory=dict)


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _Secret(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, bytes] | None = None

    def __repr__(self) -> str:
        return "_Secret(...)"


_secret: Final = msgspec.json.Decoder(_Secret)


def read_keys(raw: bytes) -> Keys | None:
    """The keys in the Secret, None for another Secret. Raises msgspec.MsgspecError for what is none."""
    found = _secret.decode(raw)
    if found.metadata.name != PUSH_KEYS_OBJECT:
        return None
    usable: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    for sender, key in sorted((found.data or {}).items()):
        if problem := sender_problem(sender) or key_problem(key):
            refused[sender] = problem
        elif len(usable) == MOST_SENDERS:
            refused[sender] = f"is one more than {MOST_SENDERS} senders"
        else:
            usable[sender] = key
    return Keys(usable, refused)


class SenderKeys:
    """`run` as a task. `on_change` hears how many keys are used and how many are not."""

    def __init__(
        self, client: ApiClient, namespace: str, *, on_change: Callable[[int, int], None] = lambda usable, refused: None
    ) -> None:
        self._on_change = on_change
        self._keys = Keys()
        self._reflector = Reflector(
            client,
            paths.secrets(namespace),
            read_keys,
            key=lambda _: PUSH_KEYS_OBJECT,
            selectors=paths.only(PUSH_KEYS_OBJECT),
            on_change=self._changed,
            name="push keys",
        )

    async def run(self) -> None:
        """Follow the Secret until cancelled. While the API server is away the last keys count."""
        await self._reflector.run()

    def of(self, sender: str) -> bytes:
        """The sender's key. Raises PushRefused."""
        key = self._keys.usable.get(sender)
        if key is not None:
            return key
        if not self._reflector.synced:
            why = "the senders' keys are not known yet"
            raise PushRefused(Outcome.UNAVAILABLE, "webhook", why, "push again in a moment", wait_s=1.0)
        if weak := self._keys.refused.get(sender):
            fix = "make another one, for example by openssl rand -hex 32"
            raise PushRefused(Outcome.UNKNOWN_SENDER, f"Secret {PUSH_KEYS_OBJECT}[{sender}]", weak, fix)
        fix = f"put its key ({MIN_KEY} bytes or more) into the Secret {PUSH_KEYS_OBJECT}, under its name"
        raise PushRefused(Outcome.UNKNOWN_SENDER, HEADER_SENDER, f"{quoted(sender)} has no key", fix)

    def _changed(self, _name: str, _old: Keys | None, new: Keys | None) -> None:
        self._keys = new or Keys()
        log.info(Event.PUSH_KEYS_LOADED, keys=len(self._keys.usable))
        for sender, why in self._keys.refused.items():
            log.warning(Event.PUSH_KEY_REFUSED, subject=sender, object=PUSH_KEYS_OBJECT, why=why)
        self._on_change(len(self._keys.usable), len(self._keys.refused))
