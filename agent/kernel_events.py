"""What the kernel tells, as records and as work: refusals for the audit log, container starts for `binaries`."""

from __future__ import annotations

import os
import time

from agent.delivery.binaries import Binaries
from agent.delivery.volumes import Volumes
from agent.kernel.layout import ActionCode, Counters, Event, EventType, PodFlag, Reason
from agent.kernel.store import Maps
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import Action, Kind, ReadRecord, Rule
from telemetry.text import wall_clock

RULE = {
    Reason.NONE: Rule.NONE,
    Reason.POD: Rule.POD,
    Reason.ENTERED: Rule.APP,
    Reason.NOT_MAIN: Rule.MAIN,
    Reason.BINARY: Rule.BINARIES,
    Reason.OPEN_FILES: Rule.OPEN_FILES,
    Reason.MOUNT: Rule.GRANT,
    Reason.LOST: Rule.VERSION,
    Reason.VALUE: Rule.VERSION,
    Reason.ENDED: Rule.ENDED,
}
ACTION = {0: Action.NONE, ActionCode.DENY: Action.DENY, ActionCode.KILL: Action.KILL, ActionCode.AUDIT: Action.AUDIT}
KIND = {EventType.SERVED: Kind.SERVED, EventType.REFUSED: Kind.REFUSED, EventType.AUDITED: Kind.SERVED}


class KernelEvents:
    """Handles the ring buffer's events and sums up the kernel's counters."""

    def __init__(self, volumes: Volumes, binaries: Binaries, maps: Maps, recorder: Recorder, metrics: Metrics) -> None:
        self._volumes, self._binaries, self._maps = volumes, binaries, maps
        self._recorder, self._metrics = recorder, metrics
        self._counted: dict[tuple[int, str], int] = {}

    def handle(self, event: Event) -> None:
        """One event; the struct is valid during the call only."""
        if event.type == EventType.STARTED:
            self._started(event)
            return
        state = self._volumes.of_grant(event.grant_id)
        self._metrics.dropped_events(event.suppressed)
        if state is None or state.kernel is None:
            return
        try:
            file = state.plan.files[state.kernel.inodes.index(event.file_inode)].name
        except ValueError:
            file = ""
        plan = state.plan
        self._recorder.record(
            ReadRecord(
                time_ns=wall_clock(event.time_ns, now_kernel_ns=time.monotonic_ns(), now_wall_ns=time.time_ns()),
                kind=KIND[EventType(event.type)],
                volume_id=plan.volume_id,
                namespace=plan.pod.namespace,
                pod=plan.pod.name,
                pod_uid=plan.pod.uid,
                file=file,
                pid=event.tgid,
                uid=event.uid,
                comm=event.comm,
                exe_inode=event.exe_inode,
                exe_device=os.makedev(event.exe_device >> 20, event.exe_device & 0xFFFFF),
                rule=RULE[Reason(event.reason)],
                action=ACTION[event.action],
                generation=event.generation,
            )
        )

    def _started(self, event: Event) -> None:
        containers = self._maps.containers()
        container = containers.get(event.container_id)
        held = container is not None and bool(container.flags & PodFlag.HOLD)
        self._binaries.started(event.pod_id, event.tgid, self._volumes.all(), held)

    def sum_up(self) -> None:
        """Bring the metrics up to the kernel's counters; call it before they are read."""
        for state in self._volumes.all():
            if state.kernel is None:
                continue
            grant = self._maps.grants[state.kernel.grant_slot]
            self._metrics.reads("served", self._since(state.kernel.grant_id, "served", grant.served))
            self._metrics.reads("refused", self._since(state.kernel.grant_id, "refused", sum(grant.refused)))
            for reason, rule in RULE.items():
                if count := self._since(state.kernel.grant_id, reason.name, grant.refused[reason]):
                    self._metrics.refusals(rule, count)
        live = {state.kernel.grant_id for state in self._volumes.all() if state.kernel} | {0}
        self._counted = {key: count for key, count in self._counted.items() if key[0] in live}
        counters: Counters = self._maps.counters
        self._metrics.dropped_events(self._since(0, "lost", counters.events_lost))
        self._metrics.map_entries("grants", self._maps.grants.used, self._maps.grants.entries)
        self._metrics.map_entries("sets", self._maps.sets.used, self._maps.sets.entries)
        self._metrics.map_entries("chunks", self._maps.chunks_used, self._maps.most_chunks)

    def _since(self, grant_id: int, what: str, now: int) -> int:
        before = self._counted.get((grant_id, what), 0)
        self._counted[grant_id, what] = now
        return max(0, now - before)
