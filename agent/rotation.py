"""From a source's word that a secret changed to every volume showing it: at most so often, and never giving up.

A version that cannot be shown leaves the last good one in place, says so, and is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from agent.ahead import Ahead
from agent.delivery.mounts import MountError
from agent.delivery.notify import Notifier
from agent.delivery.quota import Ledger
from agent.delivery.state import VolumeState
from agent.delivery.volumes import Volumes
from agent.kernel.calls import KernelError
from agent.model import SecretRef, SecretVersion, Source
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import KernelLimit, Rotated
from kernelsecret.errors import KernelSecretError, Refused, said
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0

log = get_logger("rotation")


class Rotator:
    """Watches every secret that some volume shows. An `agent.model.Observer`; use it on one event loop."""

    def __init__(
        self,
        volumes: Volumes,
        sources: Mapping[str, Source],
        notifier: Notifier,
        ledger: Ledger,
        metrics: Metrics,
        conditions: Conditions,
        recorder: Recorder,
    ) -> None:
        self._volumes, self._sources, self._notifier, self._ledger = volumes, sources, notifier, ledger
        self._metrics, self._conditions, self._recorder = metrics, conditions, recorder
        self._watches: dict[SecretRef, Callable[[], None]] = {}
        self._seen: dict[SecretRef, int] = {}
        self._last: dict[SecretRef, float] = {}
        self._waiting: dict[SecretRef, SecretVersion] = {}
        self._timers: dict[SecretRef, asyncio.TimerHandle] = {}
        self._retry_s: dict[SecretRef, float] = {}
        self._fetches: set[asyncio.Task[None]] = set()
        self._ahead = Ahead(time.monotonic)
        self._forgetting: asyncio.TimerHandle | None = None

    def watch(self, ref: SecretRef) -> None:
        """Hear of the secret's changes from now on. Idempotent."""
        if ref not in self._watches:
            self._seen.setdefault(ref, 0)
            self._watches[ref] = self._sources[ref.source].watch(ref, self)

    async def expect(self, refs: Iterable[SecretRef], for_s: float) -> None:
        """Watch these for so many seconds, as far as there is room, and have their values at hand: a volume that shows
        them is going to be published."""
        for ref in self._ahead.admit(refs, for_s):
            try:
                self.watch(ref)
                if self._ahead.get(ref) is None:
                    await self.fetch(ref)
            except Refused:
                self._ahead.drop(ref)  # the publish will hear why
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = asyncio.get_running_loop().call_later(for_s + 0.1, self.forget_unused)

    def forget_unused(self) -> None:
        """Stop watching secrets that no volume shows, and that none is expected to."""
        for ref in set(self._watches) - self._volumes.refs() - self._ahead.refs():
            self._watches.pop(ref)()
            self._waiting.pop(ref, None)
            if timer := self._timers.pop(ref, None):
                timer.cancel()
            for table in (self._seen, self._last, self._retry_s):
                table.pop(ref, None)
            for reason in (Reason.SOURCE_DOWN, Reason.ROTATION_FAILED):
                self._conditions.clear(reason, str(ref))

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """The version that is current when this returns, and shown wherever the secret is shown already."""
        self.watch(ref)
        version = self._ahead.get(ref)  # as current as its watch is
        while version is None:
            before = self._seen.get(ref, 0)
            fetched = await self._sources[ref.source].fetch(ref)
            if self._seen.get(ref, 0) == before:  # else a newer one may have come meanwhile
                version = fetched
        self._ahead.put(version)
        if self._volumes.showing(ref):
            self._show(version)
        return version

    def changed(self, version: SecretVersion) -> None:
        """A source read a new version."""
        ref = version.ref
        self._seen[ref] = self._seen.get(ref, 0) + 1
        self._ahead.put(version)
        self._metrics.source_up(ref.source, True)
        self._conditions.clear(Reason.SOURCE_DOWN, str(ref))
        wait = self._earliest(ref) - time.monotonic()
        if wait <= 0:
            self._show(version)
            return
        self._waiting[ref] = version  # the last one wins
        if ref not in self._timers:
            self._timers[ref] = asyncio.get_running_loop().call_later(wait, self._waited, ref)

    def failed(self, ref: SecretRef, problem: str) -> None:
        """A source cannot be read; the last good version goes on being served."""
        self._ahead.drop(ref)
        self._metrics.source_error(ref.source)
        self._metrics.source_up(ref.source, False)
        self._conditions.hold(Reason.SOURCE_DOWN, str(ref), problem)

    def close(self) -> None:
        """Stop every watch, timer and retry."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        for stop in self._watches.values():
            stop()
        self._watches.clear()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._fetches:
            task.cancel()

    def _earliest(self, ref: SecretRef) -> float:
        """The longest `minInterval` of those who show the secret holds: one flip serves them all."""
        interval = max((state.plan.min_interval_s for state in self._volumes.showing(ref)), default=0.0)
        return self._last.get(ref, float("-inf")) + interval

    def _waited(self, ref: SecretRef) -> None:
        self._timers.pop(ref, None)
        if version := self._waiting.pop(ref, None):
            self._show(version)

    def _show(self, version: SecretVersion) -> None:
        ref = version.ref
        try:
            keys = self._volumes.rotate(version)
        except (Refused, KernelError, MountError, OSError) as error:
            self._not_shown(ref, error)
            return
        self._retry_s.pop(ref, None)
        self._conditions.clear(Reason.ROTATION_FAILED, str(ref))
        if not keys:
            return
        now = time.monotonic_ns()
        self._last[ref] = now / 1e9
        volumes = self._volumes.following(ref)
        if not volumes:
            return  # it was stored for those who come next
        took_ns = now - version.changed_ns if version.changed_ns else 0
        self._metrics.rotation(ref.source, took_ns / 1e9 if version.changed_ns else None)
        self._recorder.record(
            Rotated(
                time_ns=time.time_ns(),
                source=ref.source,
                secret=ref.path,
                keys=len(keys),
                volumes=len(volumes),
                duration_us=took_ns // 1000,
            )
        )
        for volume_id, told in self._notifier.rotated(volumes).items():
            log.info(Event.NOTIFIED if told else Event.NOTIFY_FAILED, volume_id=volume_id, count=told)
        for state in volumes:
            self.account(state)

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

    def _not_shown(self, ref: SecretRef, error: KernelSecretError | OSError) -> None:
        self._conditions.hold(Reason.ROTATION_FAILED, str(ref), said(error))
        log.error(Event.ROTATION_FAILED, secret=str(ref), **problem(error))
        if isinstance(error, KernelError):
            self._recorder.record(KernelLimit(time_ns=time.time_ns(), call=error.call, errno=error.name))
        if ref in self._timers:
            return
        delay = self._retry_s.get(ref, FIRST_RETRY_S)
        self._retry_s[ref] = min(delay * 2, LONGEST_RETRY_S)
        self._timers[ref] = asyncio.get_running_loop().call_later(delay, self._retry, ref)

    def _retry(self, ref: SecretRef) -> None:
        self._timers.pop(ref, None)
        task = asyncio.create_task(self._fetch_again(ref))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch_again(self, ref: SecretRef) -> None:
        if ref not in self._watches:
            return
        try:
            await self.fetch(ref)
        except Refused as refusal:
            self.failed(ref, str(refusal))
