from __future__ import annotations

from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from tests.unit.conftest import LogLines


def test_a_condition_is_seen_in_status_metrics_and_log_and_said_once(log_lines: LogLines) -> None:
    metrics = Metrics()
    times = iter([2_000_000_000, 1_000_000_000, 3_000_000_000])
    conditions = Conditions(metrics, wall_clock_ns=lambda: next(times))
    value = metrics.registry.get_sample_value
    assert value("kernelsecret_degraded", {"reason": "source-down"}) == 0
    conditions.hold(Reason.SOURCE_DOWN, "file:payments/db", "the folder is gone")
    conditions.hold(Reason.SOURCE_DOWN, "file:payments/db", "the folder cannot be read")
    conditions.hold(Reason.SOURCE_DOWN, "file:web", "the folder is gone")
    assert value("kernelsecret_degraded", {"reason": "source-down"}) == 1
    assert conditions.reasons() == ["source-down"]
    assert conditions.as_status() == [
        {
            "reason": "source-down",
            "subject": "file:web",
            "why": "the folder is gone",
            "since": "1970-01-01T00:00:01.000000000Z",
        },
        {
            "reason": "source-down",
            "subject": "file:payments/db",
            "why": "the folder cannot be read",
            "since": "1970-01-01T00:00:02.000000000Z",
        },
    ]
    conditions.clear(Reason.SOURCE_DOWN, "file:payments/db")
    assert value("kernelsecret_degraded", {"reason": "source-down"}) == 1
    conditions.clear(Reason.SOURCE_DOWN, "file:web")
    conditions.clear(Reason.SOURCE_DOWN, "file:web")
    assert value("kernelsecret_degraded", {"reason": "source-down"}) == 0
    assert conditions.holding() == []
    assert [line["event"] for line in log_lines.lines] == ["degraded", "degraded", "recovered", "recovered"]
    assert log_lines.dropped == 0
