"""Pushes as they reach the agent: the ConfigMap of notices, watched. A notice is a reason to ask the source, no more.

What stands there when the agent starts is old news: sources are asked by themselves then. Of what comes later each
notice counts once, also where the watch broke in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.reflector import Reflector
from kernelsecret.names import NOTICES_OBJECT, SYSTEM_NAMESPACE
from kernelsecret.push import FIELD_NOTICES, Board, PushedSecret
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

Nudge = Callable[[str, str], int]
"""Source and path as interceptors name them: look at once. How many watched secrets that are."""

log = get_logger("agent")


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, str] = {}


_maps: Final = msgspec.json.Decoder(_ConfigMap)
_boards: Final = msgspec.json.Decoder(Board)

Revisions = dict[PushedSecret, int]


def read_revisions(raw: bytes) -> Revisions | None:
    """The newest revision of each secret in the ConfigMap, None for another object. Raises msgspec.MsgspecError."""
    found = _maps.decode(raw)
    if (found.metadata.namespace, found.metadata.name) != (SYSTEM_NAMESPACE, NOTICES_OBJECT):
        return None
    board = _boards.decode(found.data[FIELD_NOTICES]) if FIELD_NOTICES in found.data else Board()
    return {PushedSecret(one.source, one.path): one.revision for one in board.notices}


class Notices:
    """`run` as a task. `on_notice` hears of each notice and of how many secrets it nudged: 0 is not this node's."""

    def __init__(self, client: ApiClient, nudge: Nudge, on_notice: Callable[[int], None] = lambda nudged: None) -> None:
        self._nudge, self._on_notice = nudge, on_notice
        self._seen: Revisions = {}
        self._reflector = Reflector(
            client,
            paths.config_maps(SYSTEM_NAMESPACE),
            read_revisions,
            key=lambda _: NOTICES_OBJECT,
            selectors=paths.only(NOTICES_OBJECT),
            on_change=self._changed,
            name="notices",
        )

    @property
    def synced(self) -> bool:
        """Whether it listens: what is pushed from now on is heard."""
        return self._reflector.synced

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._reflector.run()

    def _changed(self, _key: str, _old: Revisions | None, new: Revisions | None) -> None:
        if new is None:
            return  # gone or damaged: what was seen stays seen, revisions are never used twice
        news = [secret for secret, revision in new.items() if self._seen.get(secret) != revision]
        self._seen = new
        if not self._reflector.synced:
            return
        for secret in news:
            try:
                self._on_notice(self._nudge(secret.source, secret.path))
            except Exception as failure:  # noqa: BLE001 - the other secrets are to be looked at all the same
                log.error(Event.NUDGE_FAILED, source=secret.source, path=secret.path, **problem(failure))
