"""The generated pages are what the code says, and all that the agent logs is on the list of what a log line may say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agent.observe.metrics
import webhook.observe.metrics
from agent import settings
from agent.observe import metrics_doc
from telemetry.logkeys import EVENTS, KEYS, Event
from webhook import options

ROOT = Path(__file__).parents[2]
ROOMS = ("agent", "apiclient", "certs", "webhook")
LEVELS = {"debug", "info", "warning", "error"}


@pytest.mark.parametrize("module", [agent.observe.metrics, webhook.observe.metrics])
def test_every_metric_is_registered_as_it_is_described(module: Any) -> None:
    registered = {
        (family.name, family.type, family.documentation)
        for family in module.Metrics().registry.collect()
        if family.name.startswith("kernelsecret_")
    }
    described = {(one.name.removesuffix("_total"), one.kind.__name__.lower(), one.help) for one in module.DEFINITIONS}
    assert registered == described


def test_the_metrics_pages_are_what_the_registries_hold() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_doc.page(), "run: python -m agent.observe.metrics_doc"
    written = (ROOT / "docs" / "webhook-metrics.md").read_text()
    assert written == webhook.observe.metrics.page(), "run: python -m webhook.observe.metrics"


def test_the_settings_pages_are_what_is_read() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings.page(), "run: python -m agent.settings"
    assert (ROOT / "docs" / "webhook-settings.md").read_text() == options.page(), "run: python -m webhook.options"


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                logger = node.func.value
                name = logger.id if isinstance(logger, ast.Name) else getattr(logger, "attr", "")
                if name.removeprefix("_") == "log":
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_event_and_key_that_a_daemon_logs_is_listed() -> None:
    calls = list(log_calls())
    assert calls
    for place, call in calls:
        event = call.args[0]
        if isinstance(event, ast.Constant):
            assert event.value in EVENTS, f"{place}: add the event to telemetry/logkeys.py"
        else:
            assert not isinstance(event, ast.JoinedStr), f"{place}: an event is a constant"
        for keyword in call.keywords:
            assert keyword.arg is None or keyword.arg in KEYS, f"{place}: add {keyword.arg} to telemetry/logkeys.py"


def test_every_event_that_is_listed_is_logged_by_somebody() -> None:
    sources = [path.read_text() for room in (*ROOMS, "telemetry") for path in (ROOT / room).rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"\bEvent\.([A-Z_]+)", text)}
    literal = {call.args[0].value for _, call in log_calls() if isinstance(call.args[0], ast.Constant)}
    assert [event for event in Event if event.name not in named and event.value not in literal] == []
