"""What is counted by looking, before the metrics are read: volumes, quotas, and how the secrets of each source do."""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.delivery.quota import Ledger
from agent.delivery.shims import Shims
from agent.delivery.volumes import Volumes
from agent.model import OnUnavailable, Source
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics


class Gauges:
    """Use it on one event loop."""

    def __init__(
        self,
        volumes: Volumes,
        shims: Shims,
        sources: Mapping[str, Source],
        ledger: Ledger,
        metrics: Metrics,
        conditions: Conditions,
    ) -> None:
        self._volumes, self._shims, self._sources, self._ledger = volumes, shims, sources, ledger
        self._metrics, self._conditions = metrics, conditions

    def refresh(self) -> None:
        """Bring them up to date."""
        self._count_volumes()
        self._look_at_sources()
        for namespace, usage in self._ledger.by_namespace().items():
            self._metrics.namespace_usage(namespace, usage.bytes_, self._ledger.quota(namespace).bytes_)

    def _count_volumes(self) -> None:
        counts: dict[str, int] = {self._volumes.engine.name.value: 0}
        for state in self._volumes.all():
            counts[state.engine.value] = counts.get(state.engine.value, 0) + 1
        for engine, count in counts.items():
            self._metrics.volumes(engine, count)
        self._metrics.shim_volumes(len(self._shims))
        ended = [state.plan.on_unavailable for state in self._volumes.all() if state.ended]
        for policy in OnUnavailable:
            self._metrics.volumes_without_right(policy.value, ended.count(policy))

    def _look_at_sources(self) -> None:
        held = [one.subject for one in self._conditions.holding() if one.reason is Reason.SOURCE_DOWN]
        down = {subject.partition(":")[0] for subject in held}  # of a source, or of a secret of it
        now, followed = time.time_ns(), self._volumes.followed()
        for name, source in self._sources.items():
            self._metrics.source_up(name, name not in down)
            facts = [found for ref in followed if ref.source == name and (found := source.facts(ref)) is not None]
            failing = sum(bool(one.problem) for one in facts)
            age_s = max(((now - one.read_ns) / 1e9 for one in facts if one.read_ns), default=0.0)
            self._metrics.source_secrets(name, good=len(facts) - failing, failing=failing, age_s=max(0.0, age_s))
            current, old = sum(bool(one.lease_ends_ns) for one in facts), sum(one.old_leases for one in facts)
            self._metrics.source_leases(name, current=current, old=old)
