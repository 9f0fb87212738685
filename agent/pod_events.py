"""What of this node's doings the users of a pod are to find in its Events: how its secrets do, and what was refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from agent.credentials import NONE_AT_HAND
from agent.delivery.volumes import Volumes
from agent.kube.event_book import EventReason
from agent.kube.events import EventWriter
from agent.model import PodRef, SecretRef
from agent.observe.records import (
    Kind,
    ProgramUnaffected,
    Published,
    ReadRecord,
    Record,
    RightEnded,
    RightReturned,
    ServedUnenforced,
)
from agent.teller import Teller

TOKENS_WITHIN_S = 150.0
"""Kubelet asks again for each volume within two minutes, and brings the pod's tokens."""


class PodEvents(Teller):
    """Tells the pods that show a secret: once that it is down, and once that it is back."""

    def __init__(self, writer: EventWriter, volumes: Volumes, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer, self._volumes, self._clock = writer, volumes, clock
        self._tokens_by_s = clock() + TOKENS_WITHIN_S
        self._down: set[SecretRef] = set()
        self._not_shown: dict[SecretRef, Collection[str] | None] = {}
        self._polled: dict[SecretRef, str] = {}

    def down(self, ref: SecretRef, why: str) -> None:
        """It cannot be read; the last good version is served."""
        if NONE_AT_HAND in why and self._clock() < self._tokens_by_s:
            return  # an agent that was started again has none before kubelet asks: that is no news for anybody
        if ref not in self._down and self._volumes.following(ref):
            self._down.add(ref)
            note = f"{ref} cannot be read now, its last good version is served: {why}"
            self._tell(ref, EventReason.SOURCE_DOWN, note, warning=True)

    def up(self, ref: SecretRef) -> None:
        """It can be read again."""
        if ref in self._down:
            self._down.discard(ref)
            self._tell(ref, EventReason.SOURCE_RECOVERED, f"{ref} can be read again", warning=False)

    def not_shown(self, ref: SecretRef, why: str, behind: Collection[str] | None = None) -> None:
        """A new version cannot be shown, by the volumes of these ids or by none."""
        self._not_shown[ref] = behind
        note = f"a new version of {ref} cannot be shown, the last good one is served: {why}"
        self._tell(ref, EventReason.ROTATION_FAILED, note, warning=True, to=behind)

    def shown(self, ref: SecretRef) -> None:
        """A new version is shown."""
        if ref in self._not_shown:
            note, to = f"new versions of {ref} are shown again", self._not_shown.pop(ref)
            self._tell(ref, EventReason.ROTATION_RECOVERED, note, warning=False, to=to)

    def polled(self, ref: SecretRef, text: str) -> None:
        """It is read at intervals, because it cannot be watched."""
        self._polled[ref] = f"{ref}: {text}"
        self._tell(ref, EventReason.POLLED, self._polled[ref], warning=True)

    def forget(self, ref: SecretRef) -> None:
        """Nobody shows it any more."""
        self._down.discard(ref)
        self._not_shown.pop(ref, None)
        self._polled.pop(ref, None)

    def recorded(self, record: Record) -> None:
        """What was written down of one pod, where its users have something to mend."""
        if isinstance(record, ReadRecord) and record.kind is Kind.REFUSED:
            note = f"a read of {record.file or 'a file'} was refused by the rule {record.rule.value} of the interceptor"
            self._say(record, EventReason.READ_REFUSED, note, warning=True)
        elif isinstance(record, Published):
            self._published(record.volume_id)
        elif isinstance(record, RightEnded):
            meets = "the last value is served" if record.policy == "keep" else "reads are refused"
            note = f"the right to the secrets of {record.interceptor} has ended, {meets}: {record.field}: {record.why}"
            self._say(record, EventReason.RIGHT_ENDED, note, warning=True)
        elif isinstance(record, RightReturned):
            note = f"the right to the secrets of {record.interceptor} is there again"
            self._say(record, EventReason.RIGHT_RETURNED, note, warning=False)
        elif isinstance(record, ProgramUnaffected):
            note = f"{record.program} is not reached by the shim ({record.why}): it reads the ordinary files"
            self._say(record, EventReason.PROGRAM_UNAFFECTED, note, warning=True)
        elif isinstance(record, ServedUnenforced):
            rule = f"the access rule `from: {record.access}` of {record.interceptor}"
            note = f"{rule} is not held: served by {record.engine}, as spec.access.unenforced allows; {record.why}"
            self._say(record, EventReason.SERVED_UNENFORCED, note, warning=True)

    def _published(self, volume_id: str) -> None:
        """What was known of its secrets before it showed them."""
        if (state := self._volumes.get(volume_id)) is not None:
            for ref in {file.ref for file in state.plan.files} & self._polled.keys():
                self._writer.tell(state.plan.pod, EventReason.POLLED, self._polled[ref], warning=True)

    def _tell(
        self, ref: SecretRef, reason: EventReason, note: str, *, warning: bool, to: Collection[str] | None = None
    ) -> None:
        following = [state.plan for state in self._volumes.following(ref)]
        for pod in {plan.pod for plan in following if to is None or plan.volume_id in to}:
            self._writer.tell(pod, reason, note, warning=warning)

    def _say(
        self,
        record: ReadRecord | RightEnded | RightReturned | ProgramUnaffected | ServedUnenforced,
        reason: EventReason,
        note: str,
        *,
        warning: bool,
    ) -> None:
        self._writer.tell(PodRef(record.namespace, record.pod, record.pod_uid, ""), reason, note, warning=warning)
