"""An Event about a pod, as the API server takes it. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from apiclient.lease import micro_time
from telemetry.text import clean

MOST_NOTE_BYTES = 1024
MOST_INSTANCE = 128


def pod_event(
    name: str,
    *,
    pod: tuple[str, str, str],
    reporter: tuple[str, str],
    reason: str,
    action: str,
    note: str,
    warning: bool,
    at: datetime,
) -> bytes:
    """`pod` is namespace, name and uid; `reporter` who says it and which one of them. The note has had `event_note`."""
    namespace, pod_name, uid = pod
    return msgspec.json.encode(
        {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro_time(at),
            "reportingController": reporter[0],
            "reportingInstance": reporter[1][:MOST_INSTANCE],
            "action": action,
            "reason": reason,
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod_name, "uid": uid},
            "note": note,
            "type": "Warning" if warning else "Normal",
        }
    )


def event_note(text: str) -> str:
    """One line, fit to be shown, within what the API server takes."""
    return clean(text, MOST_NOTE_BYTES).encode()[:MOST_NOTE_BYTES].decode("utf-8", "ignore")
