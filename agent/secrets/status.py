"""What is known of each secret that volumes show, as `kernelsecret-ctl secrets` shows it: names, versions, times, what
is wrong, and who has read what. Never a value. No I/O here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.delivery.volumes import Volumes
from agent.model import SecretRef, Source, SourceFacts
from agent.observe.conditions import Conditions, Reason
from agent.secrets.readers import ReadBook, Reader
from agent.secrets.showing import Showing
from telemetry.text import clean, rfc3339


class SecretsStatus:
    """The part `secrets` of the status document."""

    def __init__(
        self,
        volumes: Volumes,
        sources: Mapping[str, Source],
        readers: ReadBook,
        showing: Showing,
        conditions: Conditions,
        *,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._volumes, self._sources, self._readers = volumes, sources, readers
        self._showing, self._conditions, self._clock = showing, conditions, wall_clock_ns

    def as_status(self) -> list[Mapping[str, Any]]:
        """Each secret that some volume shows, sorted; JSON-ready."""
        wrong: dict[str, str] = {}
        for held in self._conditions.holding():
            if held.reason in (Reason.SOURCE_DOWN, Reason.ROTATION_FAILED):
                wrong.setdefault(held.subject, held.why)
        return [self._secret(ref, wrong.get(str(ref), "")) for ref in sorted(self._volumes.refs())]

    def _secret(self, ref: SecretRef, wrong: str) -> Mapping[str, Any]:
        source = self._sources.get(ref.source)
        facts = (source.facts(ref) if source else None) or SourceFacts()
        shown = self._showing.shown(ref)
        followed = self._volumes.following(ref)
        how = facts.how if followed else "not looked at: no volume has a right to it"
        return {
            "source": ref.source,
            "path": clean(ref.path),
            "reader": clean(ref.reader),
            "version": clean(shown.label if shown else facts.label),
            "shown_for_s": round(time.monotonic() - shown.since_s, 1) if shown else None,
            "checked_s_ago": round(max(0, self._clock() - facts.read_ns) / 1e9, 1) if facts.read_ns else None,
            "how": clean(how),
            "lease_ends": rfc3339(facts.lease_ends_ns) if facts.lease_ends_ns else "",
            "lease_left_s": round((facts.lease_ends_ns - self._clock()) / 1e9, 1) if facts.lease_ends_ns else None,
            "old_leases": facts.old_leases,
            "problem": clean(facts.problem or wrong),
            "readers": [_reader(reader) for reader in self._readers.readers(ref)],
        }


def _reader(reader: Reader) -> Mapping[str, str]:
    """`read` is the version that was read last; `standing` how that compares with what is shown now."""
    return {
        "namespace": reader.pod.namespace,
        "pod": reader.pod.name,
        "volume_id": reader.volume_id,
        "file": clean(reader.file),
        "read": clean(reader.label),
        "standing": reader.standing.value,
        "mode": reader.mode.value,
    }
