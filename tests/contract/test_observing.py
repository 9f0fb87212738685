"""The generated pages are what the code says, and all that the agent logs is on the list of what a log line may say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from agent import settings
from agent.observe import metrics_doc
from agent.observe.metrics import DEFINITIONS, Metrics
from telemetry.logkeys import EVENTS, KEYS

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error"}


def test_the_metrics_page_is_what_the_registry_holds() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_doc.page(), "run: python -m agent.observe.metrics_doc"
    registered = {
        (family.name, family.type, family.documentation)
        for family in Metrics().registry.collect()
        if family.name.startswith("kernelsecret_")
    }
    described = {(one.name.removesuffix("_total"), one.kind.__name__.lower(), one.help) for one in DEFINITIONS}
    assert registered == described


def test_the_settings_page_is_what_the_agent_reads() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings.page(), "run: python -m agent.settings"


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted((ROOT / "agent").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                logger = node.func.value
                name = logger.id if isinstance(logger, ast.Name) else getattr(logger, "attr", "")
                if name.removeprefix("_") == "log":
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_event_and_key_that_the_agent_logs_is_listed() -> None:
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
