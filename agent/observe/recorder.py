"""Sends every record where it belongs, so that no caller has to know: audit file and live events."""

from __future__ import annotations

from collections.abc import Callable

from agent.observe.events import EventHub
from agent.observe.records import Kind, ReadRecord, Record, Rule, to_line
from telemetry.audit import AuditLog


class Recorder:
    """The one door for records.

    Reads that broke no rule are live events only: a busy application would drown the audit trail. All else is audited.
    Refusals are not counted here: the kernel limits how many it reports, and counts them all itself.
    """

    def __init__(self, audit: AuditLog, hub: EventHub) -> None:
        self._audit = audit
        self._hub = hub
        self.also: list[Callable[[Record], None]] = []
        """Whoever else wants every record."""

    def record(self, record: Record) -> None:
        """Take one record. Raises TypeError for anything that is not one; never for I/O."""
        harmless = isinstance(record, ReadRecord) and record.kind is Kind.SERVED and record.rule is Rule.NONE
        if not harmless:
            self._audit.write(to_line(record))
        self._hub.publish(record)
        for also in self.also:
            also(record)
