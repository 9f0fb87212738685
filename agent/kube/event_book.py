"""Which Events are worth writing: what is said again becomes a count, and floods are cut. Pure but for a name's chance.

Times are in seconds of a clock that only grows.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from agent.model import PodRef

SERIES_EVERY_S = 60.0
"""How often the count of one Event is written at most."""
SERIES_ENDS_S = 600.0
"""What is said again after so long without it is an Event of its own."""
MOST_SERIES = 1024
MOST_WAITING = 256
POD_BURST, POD_PER_S = 4, 1 / 60
"""Different notes of one reason about one pod."""
ALL_BURST, ALL_PER_S = 256, 2.0
"""All Events of this node: room for what an outage says of all its pods, twice."""


class EventReason(StrEnum):
    """Why an Event is written: its `reason`, what people search for. It does not change."""

    SOURCE_DOWN = "SecretSourceDown"
    SOURCE_RECOVERED = "SecretSourceRecovered"
    POLLED = "SecretPolled"
    ROTATION_FAILED = "RotationFailed"
    ROTATION_RECOVERED = "RotationRecovered"
    READ_REFUSED = "ReadRefused"
    RIGHT_ENDED = "RightEnded"
    RIGHT_RETURNED = "RightReturned"
    SERVED_UNENFORCED = "ServedUnenforced"
    CREDENTIALS_ENDING = "CredentialsEnding"
    PROGRAM_UNAFFECTED = "ProgramUnaffected"


class Told(StrEnum):
    """What becomes of an Event."""

    NEW = "new"
    COUNTED = "counted"
    LIMITED = "limited"
    FULL = "full"


Key = tuple[str, EventReason, bool, str]


@dataclass(slots=True)
class Series:
    """One Event, and how often it was said. `written` is the count that the API server has, 0 before there is one."""

    pod: PodRef
    reason: EventReason
    note: str
    warning: bool
    name: str
    first_s: float
    last_s: float
    count: int = 1
    written: int = 0
    written_s: float = 0.0

    @property
    def key(self) -> Key:
        """What makes two Events the same."""
        return self.pod.uid, self.reason, self.warning, self.note


@dataclass(slots=True)
class Bucket:
    """So many at once, and so many a second."""

    left: float
    at_s: float

    def take(self, now_s: float, burst: int, per_s: float) -> bool:
        """Whether there was one left."""
        self.left = min(float(burst), self.left + (now_s - self.at_s) * per_s)
        self.at_s = now_s
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass(slots=True)
class EventBook:
    """What was said, and what is to be written next."""

    clock: Callable[[], float]
    _series: OrderedDict[Key, Series] = field(default_factory=OrderedDict)
    _waiting: deque[Series] = field(default_factory=deque)
    _of_pods: OrderedDict[tuple[str, EventReason], Bucket] = field(default_factory=OrderedDict)
    _of_all: Bucket = field(default_factory=lambda: Bucket(ALL_BURST, 0.0))

    def tell(self, pod: PodRef, reason: EventReason, note: str, warning: bool) -> Told:
        """Something happened to a pod."""
        now = self.clock()
        key = (pod.uid, reason, warning, note)
        known = self._series.get(key)
        if known is not None and now - known.last_s < SERIES_ENDS_S:
            known.count, known.last_s = known.count + 1, now
            self._series.move_to_end(key)
            return Told.COUNTED
        if len(self._waiting) >= MOST_WAITING:
            return Told.FULL
        if not self._bucket(pod.uid, reason, now).take(now, POD_BURST, POD_PER_S):
            return Told.LIMITED
        if not self._of_all.take(now, ALL_BURST, ALL_PER_S):
            return Told.LIMITED
        made = Series(pod, reason, note, warning, _name(pod), now, now)
        self._series[key] = made
        self._series.move_to_end(key)
        self._waiting.append(made)
        while len(self._series) > MOST_SERIES:
            self._series.popitem(last=False)
        return Told.NEW

    def next(self) -> Series | None:
        """What is to be written now: `written` is 0 where it has to be made, else its count has grown."""
        if self._waiting:
            return self._waiting.popleft()
        now = self.clock()
        due = [one for one in self._series.values() if one.written and one.count > one.written]
        return next((one for one in due if now - one.written_s >= SERIES_EVERY_S), None)

    def next_in_s(self) -> float | None:
        """Seconds until there may be something to write; None where nothing is to come by itself."""
        if self._waiting:
            return 0.0
        now = self.clock()
        due = [one.written_s for one in self._series.values() if one.written and one.count > one.written]
        return max(0.0, min(due) + SERIES_EVERY_S - now) if due else None

    def wrote(self, series: Series, count: int) -> None:
        """The API server has it, with this count."""
        series.written, series.written_s = count, self.clock()

    def forget(self, series: Series) -> None:
        """It could not be written, or is gone there: said again it is a new one."""
        if self._series.get(series.key) is series:
            del self._series[series.key]

    def _bucket(self, pod_uid: str, reason: EventReason, now_s: float) -> Bucket:
        bucket = self._of_pods.setdefault((pod_uid, reason), Bucket(POD_BURST, now_s))
        self._of_pods.move_to_end((pod_uid, reason))
        while len(self._of_pods) > MOST_SERIES:
            self._of_pods.popitem(last=False)
        return bucket


def _name(pod: PodRef) -> str:
    return f"{pod.name[:200].rstrip('.-')}.{secrets.token_hex(8)}"
