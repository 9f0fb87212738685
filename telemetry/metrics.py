"""How a daemon's metrics are defined, kept and written down. In memory: no I/O here.

Cardinality is bounded by construction. A label's value is one of a fixed set of words, or one of a bounded number of
well-formed names; all else becomes `other`, so that neither a pod's name nor a secret can become a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

OTHER: Final = "other"
FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Buckets, in seconds, for what should take milliseconds."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: what is in the registry, and in the documentation."""

    name: str
    kind: type[Counter] | type[Gauge] | type[Histogram]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = FAST


class Words:
    """Lets through a fixed set of words, or up to `limit` different ones of a pattern; the rest is `other`."""

    def __init__(self, *words: str, pattern: str = "", limit: int = 0) -> None:
        self._seen = set(words)
        self._pattern = re.compile(pattern) if pattern else None
        self._limit = limit

    def __call__(self, word: str) -> str:
        if word in self._seen:
            return word
        if self._pattern is None or self._limit < 1 or not self._pattern.fullmatch(word):
            return OTHER
        self._limit -= 1
        self._seen.add(word)
        return word

    def forget(self, word: str) -> None:
        """Make room again for another word of the pattern."""
        if word in self._seen:
            self._seen.remove(word)
            self._limit += 1


class Registered:
    """Metrics in a registry of their own, with Prometheus' usual `process_*`; found by name without the prefix."""

    def __init__(self, definitions: Iterable[Definition], prefix: str) -> None:
        self.registry = CollectorRegistry()
        self._metric: dict[str, Counter | Gauge | Histogram] = {}
        for one in definitions:
            made: Counter | Gauge | Histogram
            if one.kind is Histogram:
                made = Histogram(one.name, one.help, one.labels, registry=self.registry, buckets=one.buckets)
            else:
                made = one.kind(one.name, one.help, one.labels, registry=self.registry)
            self._metric[one.name.removeprefix(prefix)] = made
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, *labels: str) -> Counter:
        metric = self._metric[name]
        assert isinstance(metric, Counter)
        return metric.labels(*labels) if labels else metric

    def _gauge(self, name: str, *labels: str) -> Gauge:
        metric = self._metric[name]
        assert isinstance(metric, Gauge)
        return metric.labels(*labels) if labels else metric

    def _histogram(self, name: str, *labels: str) -> Histogram:
        metric = self._metric[name]
        assert isinstance(metric, Histogram)
        return metric.labels(*labels) if labels else metric


def page(head: str, definitions: Iterable[Definition]) -> str:
    """A page of the documentation: `head`, and a table of the metrics."""
    return head + "\n| name | type | labels | meaning |\n|---|---|---|---|\n" + "".join(map(_row, definitions))


def _row(one: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels) or "-"
    return f"| `{one.name}` | {one.kind.__name__.lower()} | {labels} | {one.help} |\n"
