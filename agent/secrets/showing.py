"""A version of a secret into every volume that shows it, in the shapes that they want; and who is told of it."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from agent.delivery.engine import BehindError
from agent.delivery.notify import Notifier
from agent.delivery.quota import Ledger
from agent.delivery.state import VolumeState
from agent.delivery.volumes import Volumes
from agent.model import SecretRef, SecretVersion
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import Rotated
from agent.secrets.readers import ReadBook
from agent.secrets.shaping import shaped
from kernelsecret.errors import Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger

log = get_logger("rotation")


@dataclass(frozen=True, slots=True)
class Shown:
    """Which version volumes show: the source's label, and since when (CLOCK_MONOTONIC seconds)."""

    label: str
    since_s: float


class Showing:
    """Shows versions. Use it on one event loop."""

    def __init__(
        self,
        volumes: Volumes,
        notifier: Notifier,
        ledger: Ledger,
        metrics: Metrics,
        conditions: Conditions,
        recorder: Recorder,
        readers: ReadBook,
    ) -> None:
        self._volumes, self._notifier, self._ledger, self._readers = volumes, notifier, ledger, readers
        self._metrics, self._conditions, self._recorder = metrics, conditions, recorder
        self._shown: dict[SecretRef, Shown] = {}

    def shown(self, ref: SecretRef) -> Shown | None:
        """Which version is shown; None where that is not known."""
        return self._shown.get(ref)

    def forget(self, ref: SecretRef) -> None:
        """Nobody with a right to it shows the secret any more. Idempotent."""
        self._shown.pop(ref, None)
        if not self._volumes.showing(ref):
            self._readers.forget(ref)

    def show(self, version: SecretVersion) -> bool:
        """Whether volumes show other values now. Raises Refused, KernelError, MountError or OSError where they cannot
        show these, and then they show what they showed: all of them, or with BehindError those that it names."""
        try:
            keys = self._volumes.rotate(self._shaped(version))
        except BehindError as behind:
            if behind.changed:
                self._note(version, is_new=True)
                self._tell(version, len(behind.changed), behind.volume_ids)
            raise
        self._note(version, is_new=bool(keys))
        if keys:
            self._tell(version, len(keys))
        return bool(keys)

    def published(self, version: SecretVersion) -> None:
        """A volume shows this version from its beginning on. Where others showed the secret already, it joined them in
        what they show, which `show` has said."""
        if version.ref not in self._shown:
            self._note(version, is_new=True)

    def account(self, state: VolumeState) -> None:
        """Count what a volume shows now. Beyond a bound it is served all the same: bounds keep new volumes out, they do
        not make an application stale."""
        volume_id, sizes, most = state.plan.volume_id, self._volumes.sizes(state), state.plan.max_file_bytes
        why = f"spec.limits.maxFileBytes: a file of {max(sizes)} bytes, more than {most}" if max(sizes) > most else ""
        try:
            self._ledger.resize(volume_id, sum(sizes))
        except Refused as refusal:
            self._ledger.settle(volume_id, sum(sizes))
            why = str(refusal)
        if why:
            self._conditions.hold(Reason.QUOTA_EXCEEDED, volume_id, why)
        else:
            self._conditions.clear(Reason.QUOTA_EXCEEDED, volume_id)

    def _note(self, version: SecretVersion, *, is_new: bool) -> None:
        ref = version.ref
        self._readers.learn(ref, self._volumes.generation(ref), version.label)
        before = self._shown.get(ref)
        self._shown[ref] = Shown(version.label, before.since_s if before and not is_new else time.monotonic())

    def _shaped(self, version: SecretVersion) -> SecretVersion:
        """With what volumes make of it. A volume without a right holds nobody up."""
        found = shaped(version, [state.plan for state in self._volumes.following(version.ref)])
        for state in self._volumes.showing(version.ref):
            if state.ended:
                with suppress(Refused):
                    found = shaped(found, [state.plan])
        return found

    def _tell(self, version: SecretVersion, keys: int, behind: Collection[str] = ()) -> None:
        volumes = [one for one in self._volumes.following(version.ref) if one.plan.volume_id not in behind]
        if not volumes:
            return  # it was stored for those who come next
        took_ns = time.monotonic_ns() - version.changed_ns if version.changed_ns else 0
        self._metrics.rotation(version.ref.source, took_ns / 1e9 if version.changed_ns else None)
        self._recorder.record(
            Rotated(
                time_ns=time.time_ns(),
                source=version.ref.source,
                secret=version.ref.path,
                keys=keys,
                volumes=len(volumes),
                duration_us=took_ns // 1000,
                version=version.label,
            )
        )
        for volume_id, told in self._notifier.rotated(volumes).items():
            log.info(Event.NOTIFIED if told else Event.NOTIFY_FAILED, volume_id=volume_id, count=told)
        for state in volumes:
            self.account(state)
