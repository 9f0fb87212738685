"""From a source's word that a secret changed to every volume showing it: at most so often, and never giving up.

A version that cannot be shown leaves the last good one in place, says so, and is tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from agent.delivery.engine import BehindError
from agent.delivery.mounts import MountError
from agent.delivery.volumes import Volumes
from agent.kernel.calls import KernelError
from agent.model import SecretRef, SecretVersion, Source
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import KernelLimit
from agent.secrets.ahead import Ahead
from agent.secrets.fetching import Fetching
from agent.secrets.showing import Showing
from agent.teller import Teller
from kernelsecret.errors import KernelSecretError, Refused, said
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

COUNT_THEIR_OWN: Final = frozenset(("kubernetes", "vault"))
"""Sources that tell the metrics of each error themselves, by its kind."""
UNREADABLE: Final = "unreadable"
"""The kind of what others tell."""
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 5.0

log = get_logger("rotation")


class Rotator:
    """Watches every secret that some volume shows. An `agent.model.Observer`; use it on one event loop."""

    def __init__(
        self,
        volumes: Volumes,
        sources: Mapping[str, Source],
        showing: Showing,
        metrics: Metrics,
        conditions: Conditions,
        recorder: Recorder,
        *,
        teller: Teller | None = None,
    ) -> None:
        self._volumes, self._sources, self._showing = volumes, sources, showing
        self._metrics, self._conditions, self._recorder = metrics, conditions, recorder
        self._teller = teller or Teller()
        self._watches: dict[SecretRef, Callable[[], None]] = {}
        self._fetching = Fetching(sources)
        self._last: dict[SecretRef, float] = {}
        self._waiting: dict[SecretRef, SecretVersion] = {}
        self._timers: dict[SecretRef, asyncio.TimerHandle] = {}
        self._retry_s: dict[SecretRef, float] = {}
        self._failing: set[SecretRef] = set()
        self._fetches: set[asyncio.Task[None]] = set()
        self._ahead = Ahead(time.monotonic)
        self._forgetting: asyncio.TimerHandle | None = None
        for name in sources:
            metrics.source_up(name, True)

    def watch(self, ref: SecretRef) -> None:
        """Hear of the secret's changes from now on. Idempotent."""
        if ref not in self._watches:
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

    def holding(self, refs: Iterable[SecretRef]) -> AbstractContextManager[None]:
        """While somebody is about to show these they stay watched, and their newest version is at hand."""
        return self._fetching.holding(refs)

    def forget_unused(self) -> None:
        """Stop watching secrets that no volume shows with a right to them, and that nobody is about to show."""
        for ref in set(self._watches) - self._volumes.followed() - self._ahead.refs() - self._fetching.held():
            self._watches.pop(ref)()
            self._waiting.pop(ref, None)
            if timer := self._timers.pop(ref, None):
                timer.cancel()
            self._last.pop(ref, None)
            self._retry_s.pop(ref, None)
            self._showing.forget(ref)
            self._well(ref)
            self._conditions.clear(Reason.ROTATION_FAILED, str(ref))
            self._teller.forget(ref)

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """The version that is current when this returns, and shown wherever the secret is shown already."""
        with self.holding([ref]):
            await self.bring(ref)
            return self.settle(ref)

    async def bring(self, ref: SecretRef) -> None:
        """Have the current version at hand, for `settle`. The secret is held. Raises Refused."""
        self.watch(ref)
        if (version := self._ahead.get(ref)) is not None:  # as current as its watch is
            self._fetching.take(version)
        else:
            await self._fetching.ask(ref)
            self._ahead.put(self._fetching.newest(ref))

    def settle(self, ref: SecretRef) -> SecretVersion:
        """The newest version of a secret that was brought, shown wherever the secret is shown already, now."""
        version = self._fetching.newest(ref)
        if self._volumes.showing(ref):
            self._waiting.pop(ref, None)
            self._show(version)
        return version

    def changed(self, version: SecretVersion) -> None:
        """A source read a new version."""
        ref = version.ref
        self._fetching.heard(version)
        self._ahead.put(version)
        self._well(ref)
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
        self._failing.add(ref)
        if ref.source not in COUNT_THEIR_OWN:
            self._metrics.source_error(ref.source, UNREADABLE)
        self._metrics.source_up(ref.source, False)
        self._conditions.hold(Reason.SOURCE_DOWN, str(ref), problem)
        self._teller.down(ref, problem)

    async def close(self) -> None:
        """Stop every timer and retry. The sources end their watches themselves: what is shown stays shown, and is not
        to be taken for what nobody shows any more."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._watches.clear()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._fetches:
            task.cancel()
        await self._fetching.close()

    def _earliest(self, ref: SecretRef) -> float:
        """The longest `minInterval` of those who show the secret holds: one flip serves them all."""
        interval = max((state.plan.min_interval_s for state in self._volumes.showing(ref)), default=0.0)
        return self._last.get(ref, float("-inf")) + interval

    def _waited(self, ref: SecretRef) -> None:
        self._timers.pop(ref, None)
        if version := self._waiting.pop(ref, None):
            self._show(version)

    def _well(self, ref: SecretRef) -> None:
        if ref not in self._failing:
            return
        self._failing.discard(ref)
        self._metrics.source_up(ref.source, all(other.source != ref.source for other in self._failing))
        self._conditions.clear(Reason.SOURCE_DOWN, str(ref))
        self._teller.up(ref)

    def _show(self, version: SecretVersion) -> None:
        ref = version.ref
        try:
            is_new = self._showing.show(version)
        except (Refused, KernelError, MountError, OSError) as error:
            self._not_shown(ref, error)
            return
        self._retry_s.pop(ref, None)
        self._conditions.clear(Reason.ROTATION_FAILED, str(ref))
        if is_new:
            self._last[ref] = time.monotonic()
            self._teller.shown(ref)

    def _not_shown(self, ref: SecretRef, error: KernelSecretError | OSError) -> None:
        self._conditions.hold(Reason.ROTATION_FAILED, str(ref), said(error))
        behind = error if isinstance(error, BehindError) else None
        if behind and behind.changed:
            self._last[ref] = time.monotonic()
        self._teller.not_shown(ref, said(error), behind.volume_ids if behind else None)
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
