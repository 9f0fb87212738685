"""Kubernetes Events about pods, where users look first (`kubectl describe pod`).

They are told and forgotten: nobody waits for the API server, and what it does not take is counted and lost. Metrics,
conditions and the audit log have it all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from agent.kube.event_book import EventBook, EventReason, Series, Told
from agent.model import PodRef
from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.lease import micro_time
from apiclient.pod_event import event_note, pod_event
from kernelsecret.errors import Refused
from kernelsecret.names import REPORTER
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

__all__ = ["EventReason", "EventWriter"]

AWAY_PAUSE_S = 1.0
"""After an Event that the API server did not take, so that an outage is not met with a flood."""
_ACTIONS = {
    EventReason.SOURCE_DOWN: "FetchSecret",
    EventReason.SOURCE_RECOVERED: "FetchSecret",
    EventReason.POLLED: "WatchSecret",
    EventReason.ROTATION_FAILED: "RotateSecret",
    EventReason.ROTATION_RECOVERED: "RotateSecret",
    EventReason.READ_REFUSED: "ReadSecret",
    EventReason.RIGHT_ENDED: "ServeVolume",
    EventReason.RIGHT_RETURNED: "ServeVolume",
    EventReason.SERVED_UNENFORCED: "ServeVolume",
    EventReason.CREDENTIALS_ENDING: "RenewLease",
    EventReason.PROGRAM_UNAFFECTED: "LoadShim",
}

log = get_logger("kube")


class EventWriter:
    """`tell` at any time; `run` writes until cancelled. Use it on one event loop."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        *,
        count: Callable[[str], None] = lambda result: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`count` hears what became of each: `written`, `counted` (said again), or lost: `limited`, `full`, `away` (the
        API server), `refused` (by it)."""
        self._client, self._node, self._count = client, node, count
        self._wall_offset = wall_clock() - clock()
        self._book = EventBook(clock)
        self._told = asyncio.Event()
        self._lost = False

    def tell(self, pod: PodRef, reason: EventReason, note: str, *, warning: bool) -> None:
        """Say something about a pod; returns at once. What is said again within ten minutes becomes a count.

        Raises TypeError, which shows no argument, for anything but texts (a value would be bytes).
        """
        given: tuple[object, ...] = (reason, note)
        if not all(map(isinstance, given, (EventReason, str))):
            raise TypeError("an event is a pod, an EventReason and a note")
        told = self._book.tell(pod, reason, event_note(note), warning)
        if told is not Told.NEW:
            self._count(told.value)
        self._told.set()

    async def run(self) -> None:
        """Write what is told, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._book.next_in_s()):
                    await self._told.wait()
            self._told.clear()
            while (series := self._book.next()) is not None:
                if not await self._write(series):
                    await asyncio.sleep(AWAY_PAUSE_S)

    async def _write(self, series: Series) -> bool:
        """Whether the API server was there."""
        count = series.count
        try:
            if not series.written:
                await self._client.create(paths.events(series.pod.namespace), self._event(series))
                count = 1
            else:
                path = paths.event(series.pod.namespace, series.name)
                await self._client.patch(path, self._counted(series, count), field_manager=REPORTER)
        except Refused as error:
            self._book.forget(series)
            is_away = isinstance(error, ApiError) and (error.status in (0, 429) or error.status >= 500)
            self._count("away" if is_away else "refused")
            if not self._lost:
                self._lost = True
                log.warning(Event.EVENT_LOST, reason=series.reason.value, pod=series.pod.name, **problem(error))
            return not is_away
        self._lost = False
        self._book.wrote(series, count)
        self._count("written")
        return True

    def _event(self, series: Series) -> bytes:
        pod = series.pod
        return pod_event(
            series.name,
            pod=(pod.namespace, pod.name, pod.uid),
            reporter=(REPORTER, self._node),
            reason=series.reason.value,
            action=_ACTIONS[series.reason],
            note=series.note,
            warning=series.warning,
            at=self._at(series.first_s),
        )

    def _counted(self, series: Series, count: int) -> bytes:
        return msgspec.json.encode(
            {"series": {"count": count, "lastObservedTime": micro_time(self._at(series.last_s))}}
        )

    def _at(self, clock_s: float) -> datetime:
        return datetime.fromtimestamp(clock_s + self._wall_offset, UTC)
