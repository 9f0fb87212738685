"""Looks at the processes of pods in mode `preload`, and tells of each program once that the shim does not reach.

Soon after a pod's volume is published and after a rotation, then ever more seldom. One pod at a time, in a thread of
its own; what was judged is not judged again before its process executes another program.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from agent.delivery.volumes import Volumes
from agent.model import PodRef
from agent.observe.metrics import Metrics
from agent.observe.records import ProgramUnaffected, Record, Rotated
from agent.preload.judging import Program, Why, told
from agent.preload.scanning import Image, Verdicts
from kernelsecret.errors import Refused
from kernelsecret.interceptor import Mode
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

TICK_S: Final = 1.0
FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 30.0
AFTER_ROTATION_S: Final = 10.0
"""So long after its last look at the soonest a pod is looked at for a rotation."""
SETTLED_S: Final = 1.0
"""A program has to be without the shim for so long, where nothing but time can tell: its linker may be at work."""
MOST_PROGRAMS: Final = 64
"""Programs of one pod that are told of."""

log = get_logger("agent")

Scan = Callable[[str, Verdicts], Verdicts]
"""The verdict on every process of the pod of a UID; those on programs that are known already are given to it. It may
take its time."""


class Annotation(Protocol):
    """Where a pod's programs are told to its users."""

    async def read(self, pod: PodRef) -> set[Program]:
        """What is told already. Raises Refused."""

    async def write(self, pod: PodRef, text: str) -> None:
        """Tell this instead; nothing where the pod is gone. Raises Refused."""


@dataclass(slots=True)
class Seen:
    """One pod: the programs that were found, and what the next look needs of the last."""

    pod: PodRef
    due_s: float
    looked_s: float = float("-inf")
    pause_s: float = FIRST_PAUSE_S
    programs: set[Program] = field(default_factory=set)
    verdicts: Verdicts = field(default_factory=dict)
    unsettled: dict[Image, float] = field(default_factory=dict)
    is_seeded: bool = False
    written: str = ""


class Looking:
    """Use it on one event loop."""

    def __init__(
        self,
        volumes: Volumes,
        scan: Scan,
        metrics: Metrics,
        record: Callable[[Record], None],
        annotation: Annotation | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._volumes, self._scan, self._metrics, self._record = volumes, scan, metrics, record
        self._annotation, self._clock, self._sleep = annotation, clock, sleep
        self._pods: dict[str, Seen] = {}
        self._lost = False

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.turn()
            await self._sleep(TICK_S)

    async def turn(self) -> None:
        """Look at every pod whose time has come."""
        self._follow()
        for seen in [one for one in self._pods.values() if one.due_s <= self._clock()]:
            await self._look(seen)

    def recorded(self, record: Record) -> None:
        """A secret was rotated: a program that is told of it may have started another."""
        if not isinstance(record, Rotated) or not self._pods:
            return
        for state in self._volumes.all():
            seen = self._pods.get(state.plan.pod.uid)
            if seen and any((f.ref.source, f.ref.path) == (record.source, record.secret) for f in state.plan.files):
                soonest = max(self._clock() + FIRST_PAUSE_S, seen.looked_s + AFTER_ROTATION_S)
                seen.due_s = min(seen.due_s, soonest)

    def as_status(self) -> list[Mapping[str, Any]]:
        """For the status document, JSON-ready: the pods that have such programs."""
        return [
            {
                "namespace": seen.pod.namespace,
                "pod": seen.pod.name,
                "programs": [{"path": one.path, "why": one.why.value} for one in sorted(seen.programs)],
            }
            for seen in self._pods.values()
            if seen.programs
        ]

    def _follow(self) -> None:
        pods = {state.plan.pod.uid: state.plan.pod for state in self._volumes.all() if state.plan.mode is Mode.PRELOAD}
        if gone := self._pods.keys() - pods:
            for uid in gone:
                del self._pods[uid]
            self._count()
        for uid in pods.keys() - self._pods.keys():
            self._pods[uid] = Seen(pods[uid], self._clock() + FIRST_PAUSE_S)

    async def _look(self, seen: Seen) -> None:
        await self._seed(seen)
        found = await asyncio.to_thread(self._scan, seen.pod.uid, seen.verdicts)
        now = self._clock()
        open_ = {image for image, one in found.items() if one and one.why is Why.NOT_LOADED}
        seen.unsettled = {image: seen.unsettled.get(image, now) for image in open_ - seen.verdicts.keys()}
        unsettled = {image for image, since_s in seen.unsettled.items() if now - since_s < SETTLED_S}
        seen.verdicts = {image: one for image, one in found.items() if image not in unsettled}
        self._tell(seen, {one for one in seen.verdicts.values() if one} - seen.programs)
        await self._write(seen)
        seen.looked_s, seen.due_s = now, now + (SETTLED_S if unsettled else seen.pause_s)
        seen.pause_s = min(2 * seen.pause_s, LONGEST_PAUSE_S)

    def _tell(self, seen: Seen, new: set[Program]) -> None:
        for program in islice(sorted(new), max(0, MOST_PROGRAMS - len(seen.programs))):
            seen.programs.add(program)
            self._record(
                ProgramUnaffected(
                    time_ns=time.time_ns(),
                    namespace=seen.pod.namespace,
                    pod=seen.pod.name,
                    pod_uid=seen.pod.uid,
                    program=program.path,
                    why=program.why.value,
                )
            )
        if new:
            self._count()

    def _count(self) -> None:
        counts = Counter(program.why for seen in self._pods.values() for program in seen.programs)
        for why in Why:
            self._metrics.unaffected_programs(why.value, counts[why])

    async def _seed(self, seen: Seen) -> None:
        """What an earlier agent told is told by this one, too, and not said again."""
        if self._annotation is None or seen.is_seeded:
            return
        try:
            already = await self._annotation.read(seen.pod)
        except Refused:
            return  # it is tried again; meanwhile nothing is written over it
        seen.is_seeded, seen.written = True, told(already)
        seen.programs |= already
        self._count()

    async def _write(self, seen: Seen) -> None:
        text = told(seen.programs)
        if self._annotation is None or not seen.is_seeded or text == seen.written:
            return
        try:
            await self._annotation.write(seen.pod, text)
        except Refused as refused:
            if not self._lost:
                self._lost = True
                log.warning(Event.ANNOTATION_LOST, pod=seen.pod.name, **problem(refused))
            return
        self._lost, seen.written = False, text
