"""Events that say which mode a pod was given and why, where users look first (`kubectl describe pod`).

They are told and forgotten: admission and the hand-over wait for none of them, and what the API server does not take is
counted and lost. The pod's annotation says the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from apiclient import paths
from apiclient.client import ApiClient, ApiError
from apiclient.pod_event import event_note, pod_event
from kernelsecret.errors import Refused
from kernelsecret.names import (
    ANNOTATION_DECISION,
    ANNOTATION_MODE,
    ANNOTATION_MODE_AUTO,
    LABEL_INJECTED,
    REPORTER_WEBHOOK,
)
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.policy.choose import PASSED_OVER
from webhook.policy.pods import Pod

REASON = "ModeChosen"
ACTION = "ChooseMode"
WAITING = 1024
WRITERS = 2
WITHIN_S = 3.0
AWAY_PAUSE_S = 1.0
"""After an Event that the API server did not take, so that an outage is not met with a flood."""

log = get_logger("handover")


class EventResult(StrEnum):
    """What became of an Event. Each is a label of a metric."""

    WRITTEN = "written"
    KNOWN = "known"  # another replica, or an earlier binding, has told it
    FULL = "full"  # too many waited
    AWAY = "away"  # the API server did not answer
    REFUSED = "refused"  # by the API server


class ModeEvents:
    """`tell` at any time, `run` as a task. `instance` is this replica; `now` has a zone."""

    def __init__(
        self,
        client: ApiClient,
        instance: str,
        now: Callable[[], datetime],
        *,
        count: Callable[[str], None] = lambda result: None,
        limit: int = WAITING,
    ) -> None:
        self._client, self._instance, self._now, self._count, self._limit = client, instance, now, count, limit
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._there = asyncio.Event()
        self._lost = False

    def tell(self, pod: Pod) -> None:
        """Say of a live pod what was decided; returns at once. A pod without our words about it is passed over."""
        sentence = pod.annotations.get(ANNOTATION_DECISION, "")
        meta = pod.metadata
        if not sentence or LABEL_INJECTED not in pod.labels or not (meta.namespace and meta.name and meta.uid):
            return
        if len(self._waiting) >= self._limit:
            self._count(EventResult.FULL)
            return
        body = pod_event(
            _name(meta.name, meta.uid),
            pod=(meta.namespace, meta.name, meta.uid),
            reporter=(REPORTER_WEBHOOK, self._instance),
            reason=REASON,
            action=ACTION,
            note=event_note(sentence),
            warning=_fell_back(pod, sentence),
            at=self._now(),
        )
        self._waiting.append((meta.namespace, body))
        self._there.set()

    async def run(self) -> None:
        """Write what is told, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._there.clear()
                await self._there.wait()
            result = await self._write(*self._waiting.popleft())
            self._count(result)
            if result is EventResult.AWAY:
                await asyncio.sleep(AWAY_PAUSE_S)

    async def _write(self, namespace: str, body: bytes) -> EventResult:
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._client.create(paths.events(namespace), body)
        except TimeoutError:
            return EventResult.AWAY
        except Refused as refused:
            status = refused.status if isinstance(refused, ApiError) else 0
            if status == 409:
                return EventResult.KNOWN
            if not self._lost:  # once, not each time
                self._lost = True
                log.warning(Event.EVENT_LOST, reason=REASON, namespace=namespace, **problem(refused))
            return EventResult.AWAY if status in (0, 429) or status >= 500 else EventResult.REFUSED
        self._lost = False
        return EventResult.WRITTEN


def _name(pod: str, uid: str) -> str:
    """One name a pod: what is told twice is one Event."""
    return f"{pod[:200].rstrip('-.')}.mode-{hashlib.sha256(uid.encode()).hexdigest()[:16]}"


def _fell_back(pod: Pod, sentence: str) -> bool:
    """Whether a mode that the interceptor prefers was passed over, without the pod's asking for another."""
    return (
        PASSED_OVER in sentence and pod.annotations.get(ANNOTATION_MODE, ANNOTATION_MODE_AUTO) == ANNOTATION_MODE_AUTO
    )
