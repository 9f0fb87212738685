from __future__ import annotations

import json
import subprocess
import sys
from pathlib import PurePath
from typing import Any, cast

import pytest

from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import configure, get_logger, problem
from tests.unit.conftest import LogLines
from tests.unit.observe.samples import CANARY

log = get_logger("test")


def test_a_line_is_json_with_time_level_event_room_and_its_fields(log_lines: LogLines) -> None:
    log.bind(volume_id="csi-0a").info(
        Event.CALL_SERVED, files=4, fresh=True, path=PurePath("/a/b"), code=Code.NOT_FOUND
    )
    (line,) = log_lines.lines
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "volume call served",
        "room": "test",
        "volume_id": "csi-0a",
        "files": 4,
        "fresh": True,
        "path": "/a/b",
        "code": "NOT_FOUND",
    }
    assert log_lines.dropped == 0


def test_unknown_keys_are_dropped_and_counted_never_printed(log_lines: LogLines) -> None:
    log.info(Event.SOURCE_UP, value=CANARY, password=CANARY, generation=2, **{CANARY: 1})
    assert CANARY not in log_lines.text
    assert log_lines.dropped == 3
    assert log_lines.lines[0]["fields_dropped"] == 3
    assert log_lines.lines[0]["generation"] == 2


@pytest.mark.parametrize("key", ["file", "files", "fresh"])
@pytest.mark.parametrize("wrong", [CANARY.encode(), [CANARY], {"a": CANARY}, ValueError(CANARY), object()])
def test_a_listed_key_with_a_value_of_another_type_is_dropped(log_lines: LogLines, key: str, wrong: object) -> None:
    log.info(Event.SOURCE_UP, **cast(Any, {key: wrong}))
    assert key not in log_lines.lines[0]
    assert CANARY not in log_lines.text
    assert log_lines.dropped == 1


@pytest.mark.parametrize("event", [f"got {CANARY}", CANARY.encode(), [CANARY], None])
def test_an_event_that_is_not_listed_is_not_printed(log_lines: LogLines, event: Any) -> None:
    log.warning(event)
    assert CANARY not in log_lines.text
    assert log_lines.lines[0]["event"] == "unlisted event"


def test_text_of_others_cannot_forge_a_line(log_lines: LogLines) -> None:
    log.info(Event.NOTIFIED, comm='x\n{"level":"info"}', file="a" * 10_000)
    (line,) = log_lines.lines
    assert line["comm"] == 'x\\x0a{"level":"info"}'
    assert len(line["file"]) == 512


def test_what_is_absent_is_left_out_and_not_counted(log_lines: LogLines) -> None:
    log.info(Event.SOURCE_UP, subject=None)
    assert "subject" not in log_lines.lines[0]
    assert log_lines.dropped == 0


def test_a_refusal_is_logged_in_full_and_anything_else_by_class_and_place() -> None:
    refused = problem(Refused(Code.NOT_FOUND, "spec.secrets[0]", "is not there", "create it"))
    assert refused == {"code": "NOT_FOUND", "field": "spec.secrets[0]", "why": "is not there", "fix": "create it"}
    try:
        raise PermissionError(13, CANARY, CANARY)
    except PermissionError as caught:
        said = problem(caught)
    assert said["error_class"] == "PermissionError"
    assert said["errno"] == "EACCES"
    assert str(said["origin"]).startswith("unit/telemetry/test_logs.py:")
    assert CANARY not in str(said)


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        configure("loud")


def test_a_reader_that_left_does_not_stop_the_agent(log_lines: LogLines) -> None:
    log_lines.stream.close()
    log.info(Event.AGENT_READY)
    assert log_lines.dropped == 1


WAYS = {
    "unhandled exception": "raise ValueError(C)",
    "exception in a thread": (
        "import threading\ndef f():\n    raise ValueError(C)\nt = threading.Thread(target=f)\nt.start()\nt.join()"
    ),
    "exception in __del__": "class A:\n    def __del__(self):\n        raise ValueError(C)\nA()",
    "exception of a forgotten task": (
        "import asyncio, gc\nasync def f():\n    raise ValueError(C)\n"
        "async def m():\n    t = asyncio.ensure_future(f())\n    await asyncio.sleep(0)\n    del t\n    gc.collect()\n"
        "asyncio.run(m(), debug=True)"
    ),
    "logging": "import logging\nlogging.getLogger('lib').error('got %s', C, extra={'x': C}, stack_info=True)",
    "logging of an exception": (
        "import logging\ntry:\n    raise ValueError(C)\nexcept ValueError:\n    logging.exception('no: ' + C)"
    ),
    "a broken format": "import logging\nlogging.getLogger('lib').error('%d %d', C)",
    "a warning": "import warnings\nwarnings.warn(C, UserWarning)",
    "structlog's own logger": "import structlog\nstructlog.get_logger().info('volume call served', value=C, file='f')",
    "our logger before configure": "get_logger('early').error(C, value=C)",
    "exception as a field": (
        "try:\n    raise ValueError(C)\nexcept ValueError as e:\n"
        "    get_logger('x').error('volume call served', exc_info=True, error=e, stack_info=True)"
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_way_of_python_to_report_a_problem_prints_a_secret(way: str, level: str) -> None:
    set_up = "" if "before" in way else f"configure({level!r})\n"
    code = f"import sys\nfrom telemetry.logs import configure, get_logger\nC = sys.stdin.read()\n{set_up}{WAYS[way]}\n"
    done = subprocess.run([sys.executable, "-c", code], input=CANARY, capture_output=True, text=True, check=False)
    assert CANARY not in done.stdout + done.stderr
    assert done.stdout == ""
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert said, "a problem must leave a trace"
