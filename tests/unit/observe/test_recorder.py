from __future__ import annotations

import json
from pathlib import Path

from agent.observe.events import EventHub
from agent.observe.recorder import Recorder
from agent.observe.records import Action, Kind, Rule
from telemetry.audit import AuditLog
from tests.unit.observe.samples import ALL, read


def test_each_record_goes_where_it_belongs(tmp_path: Path) -> None:
    hub = EventHub()
    audit = AuditLog(tmp_path / "audit")
    recorder = Recorder(audit, hub)
    served = read(kind=Kind.SERVED, rule=Rule.NONE, action=Action.NONE)
    only_audited = read(kind=Kind.SERVED, rule=Rule.MAIN, action=Action.AUDIT)
    for record in (*ALL, served, only_audited):
        recorder.record(record)
    audit.close()
    written = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["event"] for line in written] == [*(record.event for record in ALL), "read"]
    assert hub.recent() == [*ALL, served, only_audited]
