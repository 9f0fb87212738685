"""All that a log line may say: the events, and the keys with the type of their values. No I/O here.

Whatever is not listed here is dropped and counted, never printed. To log something new, add it here: that is the
moment to ask whether it could ever hold a secret.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class Event(StrEnum):
    """What happened. The text is what people search for, so it does not change."""

    # the agent
    AGENT_STARTING = "agent starting"
    AGENT_READY = "agent ready"
    AGENT_STOPPING = "agent stopping"
    AGENT_STOPPED = "agent stopped"
    AGENT_FAILED = "agent failed"
    HARDENING_INCOMPLETE = "process hardening incomplete"
    SERVING = "serving on socket"
    PEER_REFUSED = "peer refused"
    DEGRADED = "degraded"
    RECOVERED = "recovered"
    AUDIT_FAILED = "audit log cannot be written"
    AUDIT_RECOVERED = "audit log written again"
    REQUEST_FAILED = "request failed"
    # the webhook
    WEBHOOK_STARTING = "webhook starting"
    WEBHOOK_READY = "webhook ready"
    WEBHOOK_DRAINING = "webhook draining"
    WEBHOOK_STOPPED = "webhook stopped"
    WEBHOOK_FAILED = "webhook failed"
    REVIEW_FAILED = "review failed"
    STATUS_FAILED = "status could not be written"
    AGENT_SILENT = "agent does not say how its secrets do"
    # volumes
    RIGHT_ENDED = "right to a volume ended"
    RIGHT_RETURNED = "right to a volume returned"
    RIGHT_FAILED = "volume could not be closed or opened"
    # the CSI door
    CALL_SERVED = "volume call served"
    CALL_REFUSED = "volume call refused"
    CALL_FAILED = "volume call failed"
    TARGET_LEFT = "target folder left"
    REGISTERED = "registered with kubelet"
    REGISTRATION_REFUSED = "kubelet refused the plugin"
    CANNOT_ACCEPT = "cannot accept"
    CANNOT_REACH_GRPC = "cannot reach gRPC"
    # registrations and identities, at the agent
    REGISTRATION_HELD = "registration held"
    REGISTRATION_DENIED = "registration not taken"
    IDENTITY_RENEWED = "node certificate renewed"
    IDENTITY_FAILED = "node certificate cannot be renewed"
    TRUST_CHANGED = "trust changed"
    TRUST_UNREADABLE = "trust cannot be read"
    # registrations and identities, at the webhook
    HANDED_OVER = "registration handed over"
    HANDOVER_LOST = "registration not handed over"
    REGISTRATION_GIVEN = "registration given"
    REGISTRATION_WITHHELD = "registration withheld"
    IDENTITY_ISSUED = "node certificate issued"
    IDENTITY_DENIED = "node certificate denied"
    # the webhook's own keys
    KEYS_LOADED = "keys loaded"
    KEYS_UNUSABLE = "keys cannot be used"
    KEYS_CHANGED = "keys changed"
    KEEPING_FAILED = "keys cannot be kept"
    TRUST_PUBLISHED = "trust published"
    # pushes
    PUSH_KEYS_LOADED = "push keys loaded"
    PUSH_KEY_REFUSED = "push key cannot be used"
    PUSH_FAILED = "push failed"
    NOTICES_UNREADABLE = "notices cannot be read"
    NUDGE_FAILED = "source could not be told of a change"
    # secrets
    ROTATION_FAILED = "rotation failed"
    SOURCE_DOWN = "source cannot be read"
    SOURCE_UP = "source can be read again"
    POLLED = "secret is read at intervals"
    READERS_BEHIND = "not every reader has the new version in time"
    LOGGED_IN = "logged in"
    LOGIN_FAILING = "login or token cannot be renewed"
    NOTIFIED = "application signalled"
    NOTIFY_FAILED = "application could not be signalled"
    # the API server
    WATCH_FAILED = "watch failed"
    WATCH_SYNCED = "collection listed"
    OBJECT_UNREADABLE = "object cannot be used"
    CALLBACK_FAILED = "change could not be handled"
    EVENT_LOST = "event of a pod could not be written"
    REFRESH_FAILED = "object could not be read again"
    CREDENTIAL_STALE = "credential cannot be read again"
    LEADING = "leading"
    LEADING_ENDED = "not leading any more"
    LEASE_FAILED = "lease could not be renewed"
    # the kernel
    PROBED = "engine probed"
    ENGINE_PUBLISHED = "engine published as the node's label"
    ENGINE_BACK = "engine works again; the agent ends to be started with it"
    # mode `preload`
    ANNOTATION_LOST = "annotation of a pod could not be written"
    # what others said through Python's logging, warnings or an unhandled exception
    FOREIGN = "message of a library"
    UNHANDLED = "unhandled exception"
    UNLISTED = "unlisted event"


EVENTS = frozenset(event.value for event in Event)


class Kind(StrEnum):
    """The type that a key's value must have; `text` is escaped and cut."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"


_TEXT = {
    # where in the agent
    *("room", "logger", "origin", "error_class", "error_type", "errno", "call", "result"),
    # whose
    *("volume_id", "namespace", "pod", "pod_uid", "service_account", "interceptor", "registration", "node"),
    # what
    *(
        "secret",
        "source",
        "file",
        "path",
        "target",
        "socket",
        "endpoint",
        "address",
        "engine",
        "idmapped",
        "mode",
        "map",
        "program",
        "collection",
        "object",
        "lease",
        "identity",
    ),
    *("lockdown", "btf", "cgroup", "kernel"),
    # why
    *("reason", "rule", "action", "code", "field", "why", "fix", "condition", "subject", "setting", "measure"),
    *("problem", "detail", "signal", "process", "comm", "version"),
}
_NUMBERS = {
    *("count", "bytes", "files", "volumes", "keys", "limit", "generation", "dropped", "attempt"),
    *("pid", "uid", "peer_pid", "peer_uid", "exe_inode", "duration_ms", "delay_s"),
}
_FLAGS = {"achieved", "fresh", "shared", "ready"}

KEYS = MappingProxyType(
    dict.fromkeys(_TEXT, Kind.TEXT) | dict.fromkeys(_NUMBERS, Kind.NUMBER) | dict.fromkeys(_FLAGS, Kind.FLAG)
)
"""Every key that a log line may have, beside `time`, `level` and `event`."""
