"""Makes docs/metrics.md from the metrics' own definitions: `python -m agent.observe.metrics_doc > docs/metrics.md`."""

from __future__ import annotations

import sys

from agent.observe.metric_table import DEFINITIONS
from telemetry import metrics

_HEAD = """\
# Metrics

Served on `http://127.0.0.1:9473/metrics` (`KERNELSECRET_HTTP_ADDRESS`), together with Prometheus' usual `process_*` of
the agent. No label ever names a pod or a secret. This page is generated from `agent/observe/metric_table.py`: edit
that.
"""


def page() -> str:
    """The whole page."""
    return metrics.page(_HEAD, DEFINITIONS)


if __name__ == "__main__":
    sys.stdout.write(page())
