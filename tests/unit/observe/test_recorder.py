from __future__ import annotations

import json
from pathlib import Path

from agent.observe.audit import AuditLog
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import Action, Kind, Rule
from tests.unit.observe.samples import ALL, read


def test_each_record_goes_where_it_belongs(tmp_path: Path) -> None:
    metrics, hub = Metrics(), EventHub()
    audit = AuditLog(tmp_path / "audit")
    recorder = Recorder(metrics, audit, hub)
    served = read(kind=Kind.SERVED, rule=Rule.NONE, action=Action.NONE)
    only_audited = read(kind=Kind.SERVED, rule=Rule.MAIN, action=Action.AUDIT)
    for record in (*ALL, served, only_audited):
        recorder.record(record)
    audit.close()
    written = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["event"] for line in written] == [*(record.event for record in ALL), "read"]
    assert hub.recent() == [*ALL, served, only_audited]
    count = metrics.registry.get_sample_value
    assert count("kernelsecret_refusals_total", {"rule": "app"}) == 1
    assert count("kernelsecret_refusals_total", {"rule": "main"}) == 1
    assert count("kernelsecret_refusals_total", {"rule": "none"}) is None
