"""What is wrong right now, said once and seen everywhere: in the log at the change, in the metrics, in the status.

In memory only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.observe.metrics import Metrics
from telemetry.logkeys import Event
from telemetry.logs import get_logger
from telemetry.text import clean, rfc3339

log = get_logger("observe")


class Reason(StrEnum):
    """Why the agent is worse off than it should be. The last good values are served all the same."""

    SOURCE_DOWN = "source-down"
    ROTATION_FAILED = "rotation-failed"
    KERNEL_LIMIT = "kernel-limit"
    QUOTA_EXCEEDED = "quota-exceeded"
    NO_BPF = "no-bpf"
    BPFFS_READ_ONLY = "bpffs-read-only"
    ADOPTION_INCOMPLETE = "adoption-incomplete"
    HARDENING_INCOMPLETE = "hardening-incomplete"
    AUDIT_FAILING = "audit-failing"
    STATE_UNWRITABLE = "state-unwritable"
    CLUSTER_UNREADABLE = "cluster-unreadable"
    RIGHT_ENDED = "right-ended"
    ENGINE_UNPUBLISHED = "engine-unpublished"
    NOT_IDENTIFIED = "not-identified"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong with one subject (a secret, a volume, a map, or the agent where it is empty)."""

    reason: Reason
    subject: str
    why: str
    since_ns: int


class Conditions:
    """The conditions that hold. `why` is written for operators and never holds a value. Use it on one event loop."""

    def __init__(self, metrics: Metrics, *, wall_clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._metrics = metrics
        self._clock = wall_clock_ns
        self._holding: dict[tuple[Reason, str], Condition] = {}
        for reason in Reason:
            metrics.degraded(reason, False)

    def hold(self, reason: Reason, subject: str = "", why: str = "") -> None:
        """The condition holds. Said again it changes nothing but the reason why, and is not logged again.

        Raises TypeError, which shows no argument, for anything but a Reason and two texts (a value would be bytes).
        """
        given: tuple[object, ...] = (reason, subject, why)
        if not all(map(isinstance, given, (Reason, str, str))):
            raise TypeError("a condition is a Reason, a subject and a reason why")
        before = self._holding.get((reason, subject))
        since = before.since_ns if before else self._clock()
        self._holding[reason, subject] = Condition(reason, subject, clean(why), since)
        if before is None:
            self._metrics.degraded(reason, True)
            log.warning(Event.DEGRADED, condition=reason, subject=subject or None, why=why or None)

    def clear(self, reason: Reason, subject: str = "") -> None:
        """The condition has ended. Idempotent."""
        if self._holding.pop((reason, subject), None) is not None:
            self._metrics.degraded(reason, any(held is reason for held, _ in self._holding))
            log.info(Event.RECOVERED, condition=reason, subject=subject or None)

    def holding(self) -> list[Condition]:
        """All that hold now, oldest first."""
        return sorted(self._holding.values(), key=lambda one: one.since_ns)

    def reasons(self) -> list[str]:
        """The words alone, for doors that anyone on the node can open."""
        return sorted({reason.value for reason, _ in self._holding})

    def as_status(self) -> list[Mapping[str, str]]:
        """For the status document, JSON-ready."""
        return [
            {"reason": one.reason.value, "subject": clean(one.subject), "why": one.why, "since": rfc3339(one.since_ns)}
            for one in self.holding()
        ]
