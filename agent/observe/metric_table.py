"""Every metric of the agent: name, kind, labels and meaning. The documentation is made from it."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from telemetry.metrics import Definition

PREFIX: Final = "kernelsecret_"
_P = PREFIX
DEFINITIONS = (
    Definition(_P + "rotations_total", Counter, ("source",), "Versions of secrets that replaced an earlier one."),
    Definition(
        _P + "rotation_duration_seconds",
        Histogram,
        (),
        "From the source's change until every volume serves the new version and watchers are told.",
    ),
    Definition(_P + "volumes", Gauge, ("engine",), "Published volumes."),
    Definition(
        _P + "unenforced_volumes_total",
        Counter,
        ("engine",),
        "Volumes of the mode ebpf that were published although this engine cannot hold the access rule: waived.",
    ),
    Definition(_P + "shim_volumes", Gauge, (), "Volumes that hold the shim of the mode preload."),
    Definition(
        _P + "volumes_without_right",
        Gauge,
        ("policy",),
        "Published volumes whose pod has lost its right to them: keep (the last value is served) or refuse.",
    ),
    Definition(
        _P + "unaffected_programs",
        Gauge,
        ("why",),
        "Programs of pods in mode `preload` that the shim does not reach: they read the ordinary files.",
    ),
    Definition(
        _P + "registrations_total",
        Counter,
        ("result",),
        "Registrations that the webhook brought: held, or refused (also calls of strangers).",
    ),
    Definition(
        _P + "registrations_asked_total",
        Counter,
        ("result",),
        "Times that the webhook was asked for a registration; the result is ok or the refusal's code.",
    ),
    Definition(
        _P + "pod_events_total",
        Counter,
        ("result",),
        "Kubernetes Events about pods: written, counted (said again), or lost: limited, full, away, refused.",
    ),
    Definition(_P + "map_bytes", Gauge, ("namespace",), "Bytes of secret values held for the namespace's volumes."),
    Definition(
        _P + "map_quota_bytes",
        Gauge,
        ("namespace",),
        "The most that the namespace may hold; absent where there is no bound.",
    ),
    Definition(_P + "map_entries", Gauge, ("map",), "Entries in use in one of the agent's BPF maps."),
    Definition(_P + "map_max_entries", Gauge, ("map",), "Entries that the BPF map has room for."),
    Definition(
        _P + "reads_total", Counter, ("result",), "Reads of secret files as the kernel counted them: served or refused."
    ),
    Definition(
        _P + "refusals_total",
        Counter,
        ("rule",),
        "Reads that broke an access rule, by rule, as far as the kernel reported each one.",
    ),
    Definition(
        _P + "syscalls_total",
        Counter,
        ("call", "result"),
        "The agent's own calls into the kernel; the result is ok or the errno's name.",
    ),
    Definition(
        _P + "dropped_events_total",
        Counter,
        ("at",),
        "Events that were lost: in the kernel (rate limit or full ring buffer) or to a subscriber that was too slow.",
    ),
    Definition(
        _P + "source_up",
        Gauge,
        ("source",),
        "1 when every secret of the source can be read; the last good values are served of those that cannot.",
    ),
    Definition(
        _P + "source_errors_total",
        Counter,
        ("source", "kind"),
        "Times that a source could not be read, by what happened: `sealed`, `denied`, `timeout`, ...",
    ),
    Definition(
        _P + "source_down_seconds_total",
        Counter,
        ("source",),
        "Time for which the whole source was away, counted when it is back.",
    ),
    Definition(_P + "source_secrets", Gauge, ("source", "state"), "Secrets that are shown: `good`, or `failing`."),
    Definition(
        _P + "source_age_seconds",
        Gauge,
        ("source",),
        "Time since the source last said that what is shown is current, of the secret for which that is longest ago.",
    ),
    Definition(
        _P + "source_logins_total",
        Counter,
        ("source", "result"),
        "Logins: `first` of an identity, `again` where its token could not be renewed any further, or `failing`.",
    ),
    Definition(
        _P + "source_leases",
        Gauge,
        ("source", "state"),
        "Leases of dynamic credentials: `current`, or `old` (still valid for readers who have not read the new ones).",
    ),
    Definition(
        _P + "publish_duration_seconds",
        Histogram,
        ("result",),
        "Time that a publish took; the result is ok or the gRPC code.",
    ),
    Definition(_P + "adopted_volumes", Gauge, (), "Volumes that this agent found and took over when it started."),
    Definition(
        _P + "degraded",
        Gauge,
        ("reason",),
        "1 while the condition holds, see the guide for what to do about each reason.",
    ),
    Definition(_P + "audit_failures_total", Counter, (), "Audit lines that could not be written."),
    Definition(
        _P + "log_fields_dropped_total",
        Counter,
        (),
        "Log fields that the allow-list kept out; more than 0 is a defect of the agent.",
    ),
)
