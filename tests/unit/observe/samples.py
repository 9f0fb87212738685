"""One record of every kind, and a secret that must never be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.observe.records import (
    Action,
    Adopted,
    KernelLimit,
    Kind,
    ProgramUnaffected,
    Published,
    PublishRefused,
    ReadRecord,
    Record,
    RegistrationRefused,
    RightEnded,
    RightReturned,
    Rotated,
    Rule,
    ServedUnenforced,
    Unpublished,
)

CANARY = "c4n4ry-hunter2-s3cr3t"
WHEN = 1_795_255_200_123_456_789

READ = ReadRecord(
    time_ns=WHEN,
    kind=Kind.REFUSED,
    volume_id="csi-0a",
    namespace="shop",
    pod="web-0",
    pod_uid="7c2e8a3e-0000-4000-8000-000000000001",
    file="tls.crt",
    pid=4242,
    uid=1000,
    comm=b"cat\0\0\0\0\0\0\0\0\0\0\0\0\0",
    exe_inode=77,
    exe_device=(8 << 8) | 1,
    rule=Rule.APP,
    action=Action.DENY,
    generation=3,
)

_POD = {"namespace": "shop", "pod": "web-0", "pod_uid": "7c2e8a3e-0000-4000-8000-000000000001"}

ALL: tuple[Record, ...] = (
    READ,
    Published(
        time_ns=WHEN,
        volume_id="csi-0a",
        service_account="web",
        interceptor="shop",
        engine="iter",
        files=4,
        bytes_=4096,
        mode="ebpf",
        **_POD,
    ),
    PublishRefused(
        time_ns=WHEN,
        volume_id="csi-0a",
        interceptor="shop",
        code="PERMISSION_DENIED",
        field="pod.uid",
        why="is not the registered one",
        **_POD,
    ),
    Unpublished(time_ns=WHEN, volume_id="csi-0a", reason="requested", **_POD),
    Rotated(time_ns=WHEN, source="file", secret="payments/db", keys=2, volumes=9, duration_us=1800),
    Adopted(time_ns=WHEN, volume_id="csi-0a", engine="iter", files=4, mode="ebpf", **_POD),
    ServedUnenforced(
        time_ns=WHEN,
        volume_id="csi-0a",
        interceptor="shop",
        engine="tmpfs",
        access="app",
        why="a canary could not be read (EPERM)",
        **_POD,
    ),
    RightEnded(
        time_ns=WHEN,
        volume_id="csi-0a",
        interceptor="shop",
        policy="refuse",
        field="interceptor shop",
        why="was deleted",
        **_POD,
    ),
    RightReturned(time_ns=WHEN, volume_id="csi-0a", interceptor="shop", **_POD),
    ProgramUnaffected(time_ns=WHEN, program="/bin/busybox", why="static", **_POD),
    RegistrationRefused(
        time_ns=WHEN,
        pod_uid="7c2e8a3e-0000-4000-8000-000000000001",
        code="PERMISSION_DENIED",
        field="registration.node",
        why="is not this node",
    ),
    KernelLimit(time_ns=WHEN, call="bpf_map_update", errno="ENOMEM", volume_id="csi-0a", namespace="shop"),
)


def read(**changes: Any) -> ReadRecord:
    """A read record that differs from the sample where told."""
    return replace(READ, **changes)
