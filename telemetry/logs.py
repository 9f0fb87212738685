"""The log: JSON lines on standard error, through an allow-list of events and keys, without tracebacks.

A traceback, an exception's argument or a library's message may hold what was just being handled, and that may be a
secret. So an exception is logged as its class, the place in our code where it arose, and errno; only `Refused`, whose
text is written for operators and never has a value in it, is logged in full.
"""

from __future__ import annotations

import errno
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

import msgspec
import structlog

from kernelsecret.errors import Refused
from telemetry.logkeys import EVENTS, KEYS, Event, Kind
from telemetry.text import clean, rfc3339

LogValue = str | int | float | bool | PurePath | Enum | None
LEVELS = ("debug", "info", "warning", "error")


@dataclass(slots=True)
class _Sink:
    """Where lines go. One for the process: an unconfigured module must already log through the allow-list."""

    stream: TextIO | None = None
    level: int = LEVELS.index("info")
    on_dropped: Callable[[int], None] = field(default=lambda count: None)

    def write(self, line: str) -> None:
        stream = self.stream or sys.stderr
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):
            # Nobody reads the log any more; the agent serves on.
            self.on_dropped(1)

    debug = info = warning = error = write


_sink = _Sink()


def _allowed(key: str, value: object) -> str | int | float | bool | None:
    """The value as it may be shown, None when it may not: a key that is not listed, or a value of another type (bytes
    never pass).
    """
    if isinstance(value, Enum):
        value = value.value
    kind = KEYS.get(key)
    if kind is Kind.TEXT and isinstance(value, str | PurePath):
        return clean(str(value))
    if kind is Kind.NUMBER and isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if kind is Kind.FLAG and isinstance(value, bool):
        return value
    return None


def _only_allowed(_logger: object, level: str, given: Mapping[str, Any]) -> str:
    if LEVELS.index(level) < _sink.level:
        raise structlog.DropEvent
    event = given.get("event")
    line: dict[str, object] = {"time": rfc3339(time.time_ns()), "level": level}
    dropped = 0
    if isinstance(event, str) and event in EVENTS:
        line["event"] = str(event)
    else:
        line["event"] = Event.UNLISTED.value
        dropped += 1
    for key, value in given.items():
        if key == "event" or value is None:
            continue
        allowed = _allowed(key, value)
        if allowed is None:
            dropped += 1
        else:
            line[key] = allowed
    if dropped:
        line["fields_dropped"] = dropped
        _sink.on_dropped(dropped)
    return msgspec.json.encode(line).decode()


class Log(structlog.BoundLoggerBase):
    """A logger of one room. `bind(volume_id=...)` gives one that says so on every line."""

    def debug(self, event: str, **fields: LogValue) -> None:
        """For those who look for a fault."""
        self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: LogValue) -> None:
        """What an operator wants to know later."""
        self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: LogValue) -> None:
        """Something is worse than it should be, and served all the same."""
        self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: LogValue) -> None:
        """Something was asked for and could not be done."""
        self._proxy_to_logger("error", event, **fields)


def get_logger(room: str) -> Log:
    """The logger of a room (`csi`, `sources`, ...); safe to make at import time, before `configure`."""
    return Log(_sink, [_only_allowed], {"room": room})


def origin(trace: TracebackType | None) -> str | None:
    """The innermost place of a traceback as `agent/csi/node.py:88`: code, never data."""
    if trace is None:
        return None
    frame, line = list(traceback.walk_tb(trace))[-1]
    return f"{'/'.join(PurePath(frame.f_code.co_filename).parts[-3:])}:{line}"


def problem(exception: BaseException) -> dict[str, LogValue]:
    """What may be logged of an exception: `log.error(Event.X, **problem(e))`."""
    if isinstance(exception, Refused):
        return {
            "code": exception.code.value,
            "field": exception.field,
            "why": exception.why,
            "fix": exception.fix or None,
        }
    said: dict[str, LogValue] = {
        "error_class": type(exception).__name__,
        "origin": origin(exception.__traceback__),
    }
    if isinstance(exception, OSError) and exception.errno is not None:
        said["errno"] = errno.errorcode.get(exception.errno, str(exception.errno))
    return said


class _ForeignHandler(logging.Handler):
    """Takes what libraries log: who, where and which exception, never their words (asyncio and aiohttp print
    arguments).
    """

    def emit(self, record: logging.LogRecord) -> None:
        level = (
            "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "debug"
        )
        said: dict[str, LogValue] = {"origin": f"{PurePath(record.pathname).name}:{record.lineno}"}
        if record.exc_info and record.exc_info[1] is not None:
            said |= problem(record.exc_info[1])
        get_logger("foreign")._proxy_to_logger(level, Event.FOREIGN, logger=record.name, **said)


def _unhandled(_kind: object, exception: BaseException | None, _trace: object) -> None:
    if exception is not None and not isinstance(exception, KeyboardInterrupt):
        get_logger("agent").error(Event.UNHANDLED, **problem(exception))


def configure(
    level: str = "info", stream: TextIO | None = None, on_dropped: Callable[[int], None] | None = None
) -> None:
    """Set the level and the stream (standard error by default), and take over every other way that Python prints
    problems.

    `on_dropped` is told how many fields or lines were dropped. Raises ValueError for a level that is not in `LEVELS`.
    """
    if level not in LEVELS:
        raise ValueError(f"level: one of {', '.join(LEVELS)}")
    _sink.level = LEVELS.index(level)
    _sink.stream = stream
    _sink.on_dropped = on_dropped or (lambda count: None)
    root = logging.getLogger()
    root.handlers[:] = [_ForeignHandler()]
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.raiseExceptions = False  # else a bad format string prints its arguments
    logging.captureWarnings(True)
    # Whoever takes structlog's own logger instead of ours goes through the same list.
    structlog.configure(processors=[_only_allowed], logger_factory=lambda *_: _sink, wrapper_class=Log)
    sys.excepthook = _unhandled
    threading.excepthook = lambda found: _unhandled(found.exc_type, found.exc_value, found.exc_traceback)
    sys.unraisablehook = lambda found: _unhandled(found.exc_type, found.exc_value, found.exc_traceback)
