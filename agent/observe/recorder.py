"""Sends every record where it belongs, so that no caller has to know: audit file, live events, metrics."""

from __future__ import annotations

from agent.observe.audit import AuditLog
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.records import Kind, ReadRecord, Record, Rule


class Recorder:
    """The one door for records.

    Reads that broke no rule are live events only: a busy application would drown the audit trail. All else is audited.
    Refusals are counted by rule here, from the kernel's events; those which the kernel's rate limit dropped are in
    `kernelsecret_dropped_events_total`.
    """

    def __init__(self, metrics: Metrics, audit: AuditLog, hub: EventHub) -> None:
        self._metrics = metrics
        self._audit = audit
        self._hub = hub

    def record(self, record: Record) -> None:
        """Take one record. Raises TypeError for anything that is not one; never for I/O."""
        harmless = isinstance(record, ReadRecord) and record.kind is Kind.SERVED and record.rule is Rule.NONE
        if not harmless:
            self._audit.write(record)
        if isinstance(record, ReadRecord) and record.rule is not Rule.NONE:
            self._metrics.refusals(record.rule)
        self._hub.publish(record)
