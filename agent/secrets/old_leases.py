"""Tells sources when what earlier versions hold may end: as soon as every reader has the new version, or when the
interceptors say that it was waited for long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.delivery.volumes import Volumes
from agent.model import SecretRef, Source
from agent.secrets.readers import ReadBook
from telemetry.logkeys import Event
from telemetry.logs import get_logger

LOOK_S = 1.0

log = get_logger("rotation")


class OldLeases:
    """Looks at what was read of secrets that hold old leases. Use it on one event loop."""

    def __init__(self, volumes: Volumes, sources: Mapping[str, Source], readers: ReadBook) -> None:
        self._volumes, self._sources, self._readers = volumes, sources, readers
        self._given_up: dict[SecretRef, str] = {}

    async def run(self) -> None:
        """Look once a second, until cancelled. Where nothing holds an old lease that is one question for each secret,
        and a look at no reader."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        holding = [ref for ref in self._volumes.followed() if self._sources[ref.source].holds_old(ref)]
        for ref in holding:
            # By the most patient of those who show it.
            patience_s = max((state.plan.revoke_after_s for state in self._volumes.following(ref)), default=0.0)
            label = self._readers.everyone_has(ref, patience_s)
            if label is not None:
                if label != self._readers.everyone_has(ref):
                    self._say(ref, label)
                self._sources[ref.source].all_read(ref, label)
        self._given_up = {ref: label for ref, label in self._given_up.items() if ref in holding}

    def _say(self, ref: SecretRef, label: str) -> None:
        """Once for each version: what somebody may still use ends now."""
        if self._given_up.get(ref) != label:
            self._given_up[ref] = label
            log.warning(Event.READERS_BEHIND, secret=str(ref), version=label, count=len(self._readers.behind(ref)))
