"""Every metric of the webhook: names, help texts and the only methods that change them. In memory: no I/O here.

What a review costs is counted by two look-ups and two additions: the children of a metric are found once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from telemetry import metrics
from telemetry.metrics import FAST, Definition, Registered, Words

_P = "kernelsecret_webhook_"
_REVIEW = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.2, 1.0, 2.0)
DEFINITIONS = (
    Definition(
        _P + "reviews_total",
        Counter,
        ("door", "outcome"),
        "Reviews answered at `mutate`, `validate` and `bind`: injected, not-asked, allowed, refused, hinted, malformed;"
        " failed is a defect of the webhook, answered by a denial.",
    ),
    Definition(
        _P + "review_duration_seconds",
        Histogram,
        ("door",),
        "From the last byte of a review to its answer, without the network.",
        _REVIEW,
    ),
    Definition(_P + "refusals_total", Counter, ("door", "rule"), "Reviews that were denied, by the rule that said no."),
    Definition(_P + "injections_total", Counter, ("mode",), "Pods that were given secrets, by mode."),
    Definition(
        _P + "bad_requests_total",
        Counter,
        ("status",),
        "Requests that were no review, by the HTTP status of their answer: 400, 413, 415, 422.",
    ),
    Definition(
        _P + "refreshes_total",
        Counter,
        ("result",),
        "Live reads before a refusal that a lagging watch could explain: read, failed, or limited by rate.",
    ),
    Definition(
        _P + "handovers_total", Counter, ("outcome",), "Bindings that led to a hand-over of a registration, by its end."
    ),
    Definition(_P + "handover_duration_seconds", Histogram, (), "From a binding to the end of its hand-over.", FAST),
    Definition(
        _P + "mode_events_total",
        Counter,
        ("result",),
        "Events `ModeChosen` about pods that are bound: written, known (told already), or lost: full (too many waited),"
        " away (the API server), refused (by it).",
    ),
    Definition(_P + "node_requests_total", Counter, ("outcome",), "What agents asked for on their port, by its end."),
    Definition(
        _P + "pushes_total",
        Counter,
        ("outcome",),
        "Pushes answered at /v1/push: accepted, or why not (docs/push.md lists them).",
    ),
    Definition(
        _P + "push_duration_seconds",
        Histogram,
        (),
        "From the first byte of a push that was accepted until it is written where agents watch.",
        FAST,
    ),
    Definition(
        _P + "notice_writes_total",
        Counter,
        ("result",),
        "Writes of the ConfigMap of notices: ok, conflict (another replica was faster: tried again) or failed.",
    ),
    Definition(
        _P + "push_keys", Gauge, ("state",), "Keys of senders in the Secret: usable, or refused (the log says why)."
    ),
    Definition(
        _P + "known_objects", Gauge, ("collection",), "Objects that are known: nodes, namespaces, interceptors."
    ),
    Definition(
        _P + "invalid_interceptors", Gauge, (), "Interceptors in the cluster that cannot work and are passed over."
    ),
    Definition(
        _P + "view_age_seconds",
        Gauge,
        ("collection",),
        "How old what is known may be; 0 while the API server is heard. Known policy is applied on meanwhile.",
    ),
    Definition(_P + "ready", Gauge, (), "1 while /readyz says so."),
    Definition(_P + "leader", Gauge, (), "1 on the replica that rotates keys and writes the status of interceptors."),
    Definition(
        _P + "certificate_expiry_timestamp_seconds", Gauge, (), "When the certificate that is served ends; Unix time."
    ),
    Definition(_P + "status_writes_total", Counter, ("result",), "Writes to interceptors by the leader: ok or failed."),
    Definition(_P + "failures_total", Counter, ("error",), "Unexpected exceptions by class; the log has their place."),
    Definition(_P + "audit_lines_lost_total", Counter, (), "Audit lines that could not be written, or were too many."),
    Definition(
        _P + "log_fields_dropped_total",
        Counter,
        (),
        "Log fields that the allow-list kept out; more than 0 is a defect of the webhook.",
    ),
)
_SLUG = r"[a-z][a-z0-9-]{0,31}"


class Metrics(Registered):
    """The webhook's metrics in a registry of their own. Counts are non-negative, durations in seconds."""

    def __init__(self) -> None:
        super().__init__(DEFINITIONS, _P)
        self.refresh: Callable[[], None] = lambda: None
        """Brings in what is known elsewhere; called before the metrics are read."""
        self._reviews: dict[tuple[str, str], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._refused: dict[tuple[str, str], Counter] = {}
        self._injected: dict[str, Counter] = {}
        self._door = Words("mutate", "validate", "bind")
        self._outcome = Words("failed", pattern=_SLUG, limit=16)
        self._rule = Words(pattern=_SLUG, limit=64)
        self._mode = Words("ebpf", "preload", "vault-agent")
        self._status = Words("400", "413", "415", "422")
        self._refreshed = Words("read", "failed", "limited")
        self._handover = Words(pattern=_SLUG, limit=32)
        self._told = Words("written", "known", "full", "away", "refused")
        self._asked = Words(pattern=_SLUG, limit=32)
        self._pushed = Words(pattern=_SLUG, limit=32)
        self._noticed = Words("ok", "conflict", "failed")
        self._collection = Words("nodes", "namespaces", "interceptors", "pods")
        self._written = Words("ok", "failed")
        self._error = Words(pattern=r"[A-Za-z_][A-Za-z0-9_]{0,63}", limit=64)

    def review(self, door: str, outcome: str, seconds: float) -> None:
        """A review was answered after `seconds`."""
        counter = self._reviews.get((door, outcome))
        if counter is None:
            counter = self._counter("reviews_total", self._door(door), self._outcome(outcome))
            self._reviews[door, outcome] = counter
        counter.inc()
        duration = self._durations.get(door)
        if duration is None:
            duration = self._durations[door] = self._histogram("review_duration_seconds", self._door(door))
        duration.observe(seconds)

    def refusal(self, door: str, rule: str) -> None:
        """A review was denied."""
        counter = self._refused.get((door, rule))
        if counter is None:
            counter = self._counter("refusals_total", self._door(door), self._rule(rule))
            self._refused[door, rule] = counter
        counter.inc()

    def injection(self, mode: str) -> None:
        """A pod was given secrets."""
        counter = self._injected.get(mode)
        if counter is None:
            counter = self._injected[mode] = self._counter("injections_total", self._mode(mode))
        counter.inc()

    def bad_request(self, status: int) -> None:
        """A request was no review."""
        self._counter("bad_requests_total", self._status(str(status))).inc()

    def refreshed(self, result: str) -> None:
        """An object was `read` live, could not be (`failed`), or was not asked for because others were (`limited`)."""
        self._counter("refreshes_total", self._refreshed(result)).inc()

    def handover(self, outcome: str, seconds: float) -> None:
        """A hand-over ended."""
        self._counter("handovers_total", self._handover(outcome)).inc()
        self._histogram("handover_duration_seconds").observe(seconds)

    def mode_event(self, result: str) -> None:
        """An Event about a pod's mode was written, or lost."""
        self._counter("mode_events_total", self._told(result)).inc()

    def node_request(self, outcome: str) -> None:
        """An agent was answered."""
        self._counter("node_requests_total", self._asked(outcome)).inc()

    def push(self, outcome: str, seconds: float | None = None) -> None:
        """A push was answered; `seconds` are those until an accepted one was written."""
        self._counter("pushes_total", self._pushed(outcome)).inc()
        if seconds is not None:
            self._histogram("push_duration_seconds").observe(seconds)

    def notice_write(self, result: str) -> None:
        """The notices were written, or could not be: `ok`, `conflict` or `failed`."""
        self._counter("notice_writes_total", self._noticed(result)).inc()

    def push_keys(self, usable: int, refused: int) -> None:
        """How many senders have a key, and how many keys are not used."""
        self._gauge("push_keys", "usable").set(usable)
        self._gauge("push_keys", "refused").set(refused)

    def known(self, collection: str, count: int, age_s: float) -> None:
        """How many objects of a collection are known, and how old that may be."""
        word = self._collection(collection)
        self._gauge("known_objects", word).set(count)
        self._gauge("view_age_seconds", word).set(age_s)

    def invalid_interceptors(self, count: int) -> None:
        """How many interceptors are passed over."""
        self._gauge("invalid_interceptors").set(count)

    def state(self, *, ready: bool, leads: bool) -> None:
        """What this replica is."""
        self._gauge("ready").set(int(ready))
        self._gauge("leader").set(int(leads))

    def certificate_ends(self, at: float) -> None:
        """When the certificate that is served ends."""
        self._gauge("certificate_expiry_timestamp_seconds").set(at)

    def status_write(self, result: str) -> None:
        """The leader wrote to an interceptor: `ok` or `failed`."""
        self._counter("status_writes_total", self._written(result)).inc()

    def failure(self, error: BaseException) -> None:
        """An exception that nobody expected."""
        self._counter("failures_total", self._error(type(error).__name__)).inc()

    def audit_lost(self, count: int) -> None:
        """`count` audit lines were lost."""
        self._counter("audit_lines_lost_total").inc(count)

    def log_fields_dropped(self, count: int) -> None:
        """The allow-list of the log kept `count` fields out."""
        self._counter("log_fields_dropped_total").inc(count)

    def render(self) -> bytes:
        """The Prometheus text format, version 0.0.4."""
        self.refresh()
        return generate_latest(self.registry)


_HEAD = """\
# Metrics of the webhook

Served on `https://HOST:8443/metrics` (`KERNELSECRET_WEBHOOK_ADDRESS`), together with Prometheus' usual `process_*` of
the webhook. No label ever names a pod or a secret. This page is generated from `webhook/observe/metrics.py`: edit that.
"""


def page() -> str:
    """docs/webhook-metrics.md: `python -m webhook.observe.metrics > docs/webhook-metrics.md`."""
    return metrics.page(_HEAD, DEFINITIONS)


if __name__ == "__main__":
    sys.stdout.write(page())
