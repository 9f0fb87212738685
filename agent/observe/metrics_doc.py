"""Makes docs/metrics.md from the metrics' own definitions: `python -m agent.observe.metrics_doc > docs/metrics.md`."""

from __future__ import annotations

import sys

from agent.observe.metrics import DEFINITIONS, Definition

_HEAD = """\
# Metrics

Served on `http://127.0.0.1:9473/metrics` (`KERNELSECRET_HTTP_ADDRESS`), together with Prometheus' usual `process_*` of
the agent. No label ever names a pod or a secret. This page is generated from `agent/observe/metrics.py`: edit that.

| name | type | labels | meaning |
|---|---|---|---|
"""


def _row(one: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
    return f"| `{one.name}` | {one.kind.__name__.lower()} | {labels} | {one.help} |\n"


def page() -> str:
    """The whole page."""
    return _HEAD + "".join(_row(one) for one in DEFINITIONS)


if __name__ == "__main__":
    sys.stdout.write(page())
