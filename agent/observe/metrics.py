"""Every metric of the agent, and the only methods that change them. In memory: no I/O here.

No label is a pod's name or a secret: `telemetry.metrics` says how.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from prometheus_client import generate_latest

from agent.observe.metric_table import DEFINITIONS, PREFIX
from agent.observe.records import Rule
from telemetry.metrics import OTHER, Registered, Words


class Metrics(Registered):
    """The agent's metrics in a registry of their own. Counts are non-negative, durations in seconds, sizes in bytes."""

    def __init__(self) -> None:
        super().__init__(DEFINITIONS, PREFIX)
        self.refresh: Callable[[], None] = lambda: None
        """Brings in what is counted elsewhere (in the kernel); called before the metrics are read."""
        self._source = Words("file", "vault", "kubernetes")
        self._kind = Words(pattern=r"[a-z][a-z0-9-]{0,31}", limit=64)
        self._told = Words("written", "counted", "limited", "full", "away", "refused")
        self._login = Words("first", "again", "failing")
        self._engine = Words("iter", "rewrite", "tmpfs")
        self._policy = Words("keep", "refuse")
        self._unaffected = Words("static", "32-bit", "setuid", "environment", "not loaded")
        self._brought = Words("held", "refused")
        self._namespace = Words(pattern=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", limit=1000)
        self._map = Words(pattern=r"[a-z][a-z0-9_]{0,14}", limit=32)
        self._read = Words("served", "refused")
        self._rule = Words(*(rule.value for rule in Rule))
        self._call = Words(pattern=r"[a-z][a-z0-9_]{0,31}", limit=64)
        self._at = Words("kernel", "subscriber")
        self._reason = Words(pattern=r"[a-z][a-z0-9-]{0,31}", limit=32)
        self._code = Words("ok", pattern=r"[A-Z][A-Z_]{0,31}", limit=17)

    def rotation(self, source: str, seconds: float | None) -> None:
        """A version replaced another; `seconds` since the source changed, None where nobody saw it change."""
        self._counter("rotations_total", self._source(source)).inc()
        if seconds is not None:
            self._histogram("rotation_duration_seconds").observe(seconds)

    def volumes(self, engine: str, count: int) -> None:
        """How many volumes an engine serves now."""
        self._gauge("volumes", self._engine(engine)).set(count)

    def unenforced_volume(self, engine: str) -> None:
        """A volume was published by an engine that cannot hold its access rule."""
        self._counter("unenforced_volumes_total", self._engine(engine)).inc()

    def shim_volumes(self, count: int) -> None:
        """How many volumes hold the shim now."""
        self._gauge("shim_volumes").set(count)

    def volumes_without_right(self, policy: str, count: int) -> None:
        """How many volumes are kept or refused now."""
        self._gauge("volumes_without_right", self._policy(policy)).set(count)

    def unaffected_programs(self, why: str, count: int) -> None:
        """How many programs the shim does not reach, for this reason."""
        self._gauge("unaffected_programs", self._unaffected(why)).set(count)

    def registration(self, result: str) -> None:
        """A registration that was brought is `held` or was `refused`."""
        self._counter("registrations_total", self._brought(result)).inc()

    def registration_asked(self, result: str) -> None:
        """The webhook was asked: `ok` or the refusal's code."""
        self._counter("registrations_asked_total", self._code(result)).inc()

    def pod_event(self, result: str) -> None:
        """A Kubernetes Event: `written`, `counted`, or lost by `limited`, `full`, `away` or `refused`."""
        self._counter("pod_events_total", self._told(result)).inc()

    def namespace_usage(self, namespace: str, bytes_: int, quota_bytes: int | None) -> None:
        """What a namespace holds, and may hold (None: no bound)."""
        known = self._namespace(namespace)
        self._gauge("map_bytes", known).set(bytes_)
        if quota_bytes is None:
            self._metric["map_quota_bytes"].remove_by_labels({"namespace": known})
        else:
            self._gauge("map_quota_bytes", known).set(quota_bytes)

    def forget_namespace(self, namespace: str) -> None:
        """The namespace has no volume left: its series end. Idempotent."""
        for name in ("map_bytes", "map_quota_bytes"):
            self._metric[name].remove_by_labels({"namespace": namespace})
        self._namespace.forget(namespace)

    def map_entries(self, map_: str, entries: int, max_entries: int) -> None:
        """How full a BPF map is; `map_` is the name that the object file gives it."""
        known = self._map(map_)
        self._gauge("map_entries", known).set(entries)
        self._gauge("map_max_entries", known).set(max_entries)

    def reads(self, result: str, count: int = 1) -> None:
        """`count` more reads were `served` or `refused`."""
        self._counter("reads_total", self._read(result)).inc(count)

    def refusals(self, rule: Rule, count: int = 1) -> None:
        """`count` more reads broke a rule."""
        self._counter("refusals_total", self._rule(rule)).inc(count)

    def syscall(self, call: str, error: int = 0) -> None:
        """The agent called the kernel (`bpf_map_update`, `mount`, ...); `error` is the errno, 0 when it worked."""
        result = "ok" if error == 0 else errno.errorcode.get(abs(error), OTHER)
        self._counter("syscalls_total", self._call(call), result).inc()

    def dropped_events(self, count: int, at: str = "kernel") -> None:
        """`count` events were lost at the `kernel` or at a `subscriber`."""
        self._counter("dropped_events_total", self._at(at)).inc(count)

    def source_up(self, source: str, up: bool) -> None:
        """Whether a source can be read."""
        self._gauge("source_up", self._source(source)).set(int(up))

    def source_error(self, source: str, kind: str) -> None:
        """A source could not be read once more; `kind` is its own word for what happened."""
        self._counter("source_errors_total", self._source(source), self._kind(kind)).inc()

    def source_away(self, source: str, seconds: float) -> None:
        """The whole source was away for so long."""
        self._counter("source_down_seconds_total", self._source(source)).inc(seconds)

    def source_login(self, source: str, result: str) -> None:
        """A login: `first`, `again` or `failing`."""
        self._counter("source_logins_total", self._source(source), self._login(result)).inc()

    def source_secrets(self, source: str, *, good: int, failing: int, age_s: float) -> None:
        """How many secrets are shown, and how long ago the source confirmed the one that waits longest."""
        known = self._source(source)
        self._gauge("source_secrets", known, "good").set(good)
        self._gauge("source_secrets", known, "failing").set(failing)
        self._gauge("source_age_seconds", known).set(age_s)

    def source_leases(self, source: str, *, current: int, old: int) -> None:
        """How many leases are held."""
        known = self._source(source)
        self._gauge("source_leases", known, "current").set(current)
        self._gauge("source_leases", known, "old").set(old)

    def publish(self, result: str, seconds: float) -> None:
        """A publish ended after `seconds`: `ok` or a gRPC code (`PERMISSION_DENIED`)."""
        self._histogram("publish_duration_seconds", self._code(result)).observe(seconds)

    def adopted_volumes(self, count: int) -> None:
        """How many volumes were found and taken over at the start."""
        self._gauge("adopted_volumes").set(count)

    def degraded(self, reason: str, holds: bool) -> None:
        """Whether a condition holds; its series stays at 0 afterwards, so that an alert can see it end."""
        self._gauge("degraded", self._reason(reason)).set(int(holds))

    def audit_failure(self) -> None:
        """An audit line could not be written."""
        self._counter("audit_failures_total").inc()

    def log_fields_dropped(self, count: int) -> None:
        """The allow-list of the log kept `count` fields out."""
        self._counter("log_fields_dropped_total").inc(count)

    def render(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        self.refresh()
        return generate_latest(self.registry)
