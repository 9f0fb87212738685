"""Everything by which the agent tells what it does: metrics, log, conditions, live events, audit trail."""

from __future__ import annotations

from agent.observe.conditions import Conditions, Reason
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.settings import Settings
from telemetry.audit import AuditLog
from telemetry.logs import configure


class Telling:
    """One agent's voices, wired to each other: a failure of one is told by the others."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        configure(settings.log_level, on_dropped=self.metrics.log_fields_dropped)
        self.conditions = Conditions(self.metrics)
        self.hub = EventHub(
            kept=settings.events_kept, on_dropped=lambda count: self.metrics.dropped_events(count, "subscriber")
        )
        if settings.audit_log:
            settings.audit_log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.audit = AuditLog(settings.audit_log, on_failure=self._audit_failed, on_recovery=self._audit_recovered)
        self.recorder = Recorder(self.audit, self.hub)

    def freeing_failed(self, error_text: str) -> None:
        """What has ended cannot be freed now."""
        self.conditions.hold(Reason.KERNEL_LIMIT, "freeing", error_text)

    def freeing_worked(self) -> None:
        """It can again."""
        self.conditions.clear(Reason.KERNEL_LIMIT, "freeing")

    def _audit_failed(self) -> None:
        self.metrics.audit_failure()
        self.conditions.hold(Reason.AUDIT_FAILING, why="the audit log cannot be written; the log says why")

    def _audit_recovered(self) -> None:
        self.conditions.clear(Reason.AUDIT_FAILING)
