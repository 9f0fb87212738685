"""A secret's value is pushed through every public door of the room, the error paths too; it must come out of none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.observe.conditions import Conditions, Reason
from agent.observe.events import EventHub
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import to_line
from telemetry.audit import AuditLog
from telemetry.logkeys import KEYS, Event, Kind
from telemetry.logs import get_logger, problem
from tests.unit.conftest import LogLines
from tests.unit.observe.samples import ALL, CANARY

VALUE = CANARY.encode()
# Every shape in which a careless caller could hold a value.
SHAPES: tuple[Any, ...] = (
    VALUE,
    bytearray(VALUE),
    memoryview(VALUE),
    [CANARY],
    {"key": VALUE},
    ValueError(CANARY),
    OSError(28, CANARY, CANARY),
    UnicodeDecodeError("utf-8", VALUE, 0, 1, CANARY),
)


def out(lines: LogLines, audit: Path, metrics: Metrics) -> str:
    return lines.text + audit.read_text() + metrics.render().decode()


@pytest.fixture
def doors(tmp_path: Path) -> tuple[Metrics, AuditLog, Recorder, Path]:
    metrics = Metrics()
    audit = AuditLog(tmp_path / "audit", on_failure=metrics.audit_failure)
    return metrics, audit, Recorder(audit, EventHub()), tmp_path / "audit"


def test_through_the_log(log_lines: LogLines) -> None:
    log = get_logger("test")
    for shape in SHAPES:
        for method in (log.debug, log.info, log.warning, log.error):
            loud = cast(Callable[..., None], method)
            loud(Event.CALL_SERVED, **dict.fromkeys(KEYS, shape))
            loud(Event.CALL_SERVED, value=CANARY, **{CANARY: shape}, exc_info=shape, stack_info=True)
            loud(shape)
        if isinstance(shape, BaseException):
            log.error(Event.REQUEST_FAILED, **problem(shape))
    log.info(Event.CALL_SERVED, **cast(Any, {key: CANARY for key, kind in KEYS.items() if kind is not Kind.TEXT}))
    log.bind(value=CANARY).info(Event.CALL_SERVED)
    cast(Any, log)._proxy_to_logger("info", f"got {CANARY}")
    assert log_lines.text
    assert CANARY not in log_lines.text
    assert log_lines.dropped > len(KEYS)


def test_through_records(doors: tuple[Metrics, AuditLog, Recorder, Path], log_lines: LogLines) -> None:
    metrics, _, recorder, path = doors
    for record in ALL:
        for column in fields(record):
            for shape in SHAPES:
                if column.type == "bytes" and isinstance(shape, bytes):
                    continue  # `comm`: what a process calls itself is its own business, and at most 16 bytes
                wrong = replace(record, **cast(Any, {column.name: shape}))
                for door in (to_line, recorder.record):
                    with pytest.raises(TypeError) as caught:
                        door(wrong)
                    assert CANARY not in repr(caught.value)
    for shape in (*SHAPES, CANARY):
        with pytest.raises(TypeError) as caught:
            recorder.record(shape)
        assert CANARY not in repr(caught.value)
    assert CANARY not in out(log_lines, path, metrics)


def test_through_metrics(doors: tuple[Metrics, AuditLog, Recorder, Path], log_lines: LogLines) -> None:
    metrics, _, _, path = doors
    refusals: list[str] = []
    for shape in (*SHAPES, f"{CANARY} "):
        calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
            ("rotation", (shape, 0.1)),
            ("volumes", (shape, 1)),
            ("namespace_usage", (shape, 1, 1)),
            ("forget_namespace", (shape,)),
            ("map_entries", (shape, 1, 1)),
            ("reads", (shape,)),
            ("refusals", (shape,)),
            ("syscall", (shape, 28)),
            ("dropped_events", (1, shape)),
            ("source_up", (shape, True)),
            ("source_error", (shape, shape)),
            ("source_away", (shape, 1.0)),
            ("source_login", (shape, shape)),
            ("publish", (shape, 0.1)),
            ("degraded", (shape, True)),
        )
        for method, arguments in calls:
            try:
                getattr(metrics, method)(*arguments)
            except TypeError as refused:
                refusals.append(repr(refused))
    assert CANARY not in str(refusals)
    assert CANARY not in out(log_lines, path, metrics)


def test_through_conditions_only_what_was_written_for_operators_is_shown(log_lines: LogLines) -> None:
    metrics = Metrics()
    conditions = Conditions(metrics)
    for shape in SHAPES:
        for wrong in ((shape, "", ""), (Reason.SOURCE_DOWN, shape, ""), (Reason.SOURCE_DOWN, "file:web", shape)):
            with pytest.raises(TypeError) as caught:
                cast(Any, conditions).hold(*wrong)
            assert CANARY not in repr(caught.value)
    assert conditions.holding() == []
    assert CANARY not in log_lines.text + metrics.render().decode()
