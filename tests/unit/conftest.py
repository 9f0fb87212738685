"""What tests of several rooms share: the log of one test."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from telemetry import logs


class LogLines:
    """The log of one test."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.dropped = 0

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def count_dropped(self, count: int) -> None:
        self.dropped += count


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    """The process-wide sink turned to memory; `configure` itself is tried in processes of its own."""
    lines = LogLines()
    monkeypatch.setattr(logs._sink, "stream", lines.stream)
    monkeypatch.setattr(logs._sink, "level", 0)
    monkeypatch.setattr(logs._sink, "on_dropped", lines.count_dropped)
    return lines
