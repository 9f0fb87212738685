from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.observe.records import RECORD_TYPES, Record, shown, to_line
from tests.unit.observe.samples import ALL, CANARY, READ, read


def test_the_samples_cover_every_type_of_record() -> None:
    assert {type(record) for record in ALL} == set(RECORD_TYPES)


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.event)
def test_every_record_is_one_json_line_with_a_time_and_an_event(record: Record) -> None:
    line = to_line(record)
    assert line.count(b"\n") == 1
    document = json.loads(line)
    assert document["time"] == "2026-11-21T10:00:00.123456789Z"
    assert document["event"] == record.event
    assert len(document) == len(fields(record)) + 1


def test_a_refused_read_says_who_what_and_why() -> None:
    assert shown(READ) == {
        "time": "2026-11-21T10:00:00.123456789Z",
        "event": "read",
        "kind": "refused",
        "volume_id": "csi-0a",
        "namespace": "shop",
        "pod": "web-0",
        "pod_uid": "7c2e8a3e-0000-4000-8000-000000000001",
        "file": "tls.crt",
        "pid": 4242,
        "uid": 1000,
        "comm": "cat",
        "exe_inode": 77,
        "exe_device": "8:1",
        "rule": "app",
        "action": "deny",
        "generation": 3,
    }


@given(st.binary(max_size=64))
def test_any_process_name_stays_on_its_line(comm: bytes) -> None:
    line = to_line(read(comm=comm))
    assert line.count(b"\n") == 1
    assert json.loads(line)["comm"].isprintable()


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.event)
def test_a_value_of_another_type_is_refused_without_being_shown(record: Record) -> None:
    for column in fields(record):
        for wrong in (CANARY.encode(), {"value": CANARY}, ValueError(CANARY), None, 1.5):
            if column.type == "bytes" and isinstance(wrong, bytes):
                continue
            changed = replace(record, **cast(Any, {column.name: wrong}))
            with pytest.raises(TypeError) as caught:
                to_line(changed)
            assert CANARY not in str(caught.value)
            assert column.name.removesuffix("_") in str(caught.value)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(TypeError, match="known record types"):
        to_line(cast(Record, {"event": "read", "value": CANARY}))
