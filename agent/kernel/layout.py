"""Mirror of `bpf/layout.h`: the structs of map values and events, and the numbers in them.

`agent.kernel.layout_check` holds the two equal through the object's BTF: names, sizes, offsets, gaps and enum values.
"""

from __future__ import annotations

from ctypes import Array, Structure, c_char, c_uint8, c_uint32, c_uint64
from enum import IntEnum

LAYOUT_VERSION = 3
UNKNOWN_MAIN = 0xFFFFFFFF
"""`KS_UNKNOWN_MAIN`."""


class Limit(IntEnum):
    """`enum ks_limit`."""

    CHUNK_BYTES = 1528
    LEAD_STEPS = 4
    STEP_CHUNKS = 20
    STEPS = 39
    VALUE_BYTES = 1048576
    BUFFER_BYTES = 32768
    GRANTS = 4096
    SETS = 8192
    SET_ITEMS = 64
    SESSIONS = 64
    SESSION_PROBES = 8
    ROUNDS = 4
    CGROUP_DEPTH = 8
    COMM_BYTES = 16
    DIGEST_BYTES = 16
    OWN_REFERENCES = 2
    SIZE_LOOKBACK = 4
    KILL_FACTOR = 4


class FromCode(IntEnum):
    """`enum ks_from`."""

    APP = 1
    MAIN = 2
    ANY = 3
    BINARIES = 4


class ActionCode(IntEnum):
    """`enum ks_action`."""

    DENY = 1
    KILL = 2
    AUDIT = 3


class Reason(IntEnum):
    """`enum ks_reason`: why a reader got nothing."""

    NONE = 0
    POD = 1
    ENTERED = 2
    NOT_MAIN = 3
    BINARY = 4
    OPEN_FILES = 5
    MOUNT = 6
    LOST = 7
    VALUE = 8
    ENDED = 9


class EventType(IntEnum):
    """`enum ks_event_type`."""

    SERVED = 1
    REFUSED = 2
    AUDITED = 3
    STARTED = 4


class TaskFlag(IntEnum):
    """`enum ks_task_flag`."""

    MAIN = 1
    ROOT = 2


class PodFlag(IntEnum):
    """`enum ks_pod_flag`."""

    HOLD = 1


REASONS = len(Reason)


class Step(Structure):
    """`struct ks_step`."""

    grant_id: int
    grant_slot: int
    _fields_ = (("grant_id", c_uint64), ("grant_slot", c_uint32), ("reserved", c_uint32))


class Grant(Structure):
    """`struct ks_grant`."""

    id: int
    pod_id: int
    cgroup_id: int
    mount_ns: int
    pid_ns: int
    device: int
    from_: int
    action: int
    open_limit: int
    closed: int
    files_id: int
    events_suppressed: int
    served: int
    served_bytes: int
    audited: int
    refused: list[int]
    _fields_ = (
        ("id", c_uint64),
        ("pod_id", c_uint64),
        ("cgroup_id", c_uint64),
        ("mount_ns", c_uint32),
        ("pid_ns", c_uint32),
        ("device", c_uint32),
        ("from_", c_uint32),
        ("action", c_uint32),
        ("open_limit", c_uint32),
        ("event_window_ns", c_uint64),
        ("event_count", c_uint32),
        ("closed", c_uint32),
        ("files_id", c_uint64),
        ("events_suppressed", c_uint64),
        ("served", c_uint64),
        ("served_bytes", c_uint64),
        ("audited", c_uint64),
        ("refused", c_uint64 * REASONS),
    )


class Sessions(Structure):
    """`struct ks_sessions`."""

    _fields_ = (("tag", c_uint64 * Limit.SESSIONS),)


class Set(Structure):
    """`struct ks_set`: a secret, whose items change their value together."""

    id: int
    current: int
    oldest: int
    long_items: int
    flips: int
    flipped_ns: int
    _fields_ = (
        ("id", c_uint64),
        ("current", c_uint32),
        ("oldest", c_uint32),
        ("long_items", c_uint64),
        ("flips", c_uint64),
        ("flipped_ns", c_uint64),
        ("reserved", c_uint64 * 3),
    )


class FileKey(Structure):
    """`struct ks_file_key`."""

    files_id: int
    inode: int
    _fields_ = (("files_id", c_uint64), ("inode", c_uint64))


class File(Structure):
    """`struct ks_file`."""

    set_id: int
    set_slot: int
    item: int
    seen: int
    read: int
    _fields_ = (
        ("set_id", c_uint64),
        ("set_slot", c_uint32),
        ("item", c_uint32),
        ("seen", c_uint32),
        ("read", c_uint32),
    )


class VersionKey(Structure):
    """`struct ks_version_key`."""

    set_id: int
    generation: int
    item: int
    _fields_ = (("set_id", c_uint64), ("generation", c_uint32), ("item", c_uint32))


class Version(Structure):
    """`struct ks_version`."""

    value_id: int
    bytes: int
    since: int
    digest: Array[c_uint8]
    _fields_ = (
        ("value_id", c_uint64),
        ("bytes", c_uint32),
        ("since", c_uint32),
        ("digest", c_uint8 * Limit.DIGEST_BYTES),
    )


class ChunkKey(Structure):
    """`struct ks_chunk_key`."""

    value_id: int
    index: int
    _fields_ = (("value_id", c_uint64), ("index", c_uint32), ("reserved", c_uint32))


class Chunk(Structure):
    """`struct ks_chunk`."""

    lock: int
    bytes: int
    data: Array[c_uint8]
    _fields_ = (("lock", c_uint32), ("bytes", c_uint32), ("data", c_uint8 * Limit.CHUNK_BYTES))


class BinaryKey(Structure):
    """`struct ks_binary_key`."""

    grant_id: int
    inode: int
    device: int
    _fields_ = (("grant_id", c_uint64), ("inode", c_uint64), ("device", c_uint32), ("reserved", c_uint32))


class Pod(Structure):
    """`struct ks_pod`."""

    id: int
    flags: int
    _fields_ = (("id", c_uint64), ("flags", c_uint32), ("reserved", c_uint32))


class Container(Structure):
    """`struct ks_container`."""

    pod_id: int
    main_tgid: int
    flags: int
    _fields_ = (("pod_id", c_uint64), ("main_tgid", c_uint32), ("flags", c_uint32))


class Round(Structure):
    """`struct ks_round`."""

    _fields_ = (
        ("set_id", c_uint64),
        ("read_items", c_uint64),
        ("began_ns", c_uint64),
        ("generation", c_uint32),
        ("reserved", c_uint32),
    )


class Task(Structure):
    """`struct ks_task`."""

    pod_id: int
    container_id: int
    flags: int
    _fields_ = (
        ("pod_id", c_uint64),
        ("container_id", c_uint64),
        ("flags", c_uint32),
        ("next_round", c_uint32),
        ("rounds", Round * Limit.ROUNDS),
    )


class Event(Structure):
    """`struct ks_event`."""

    time_ns: int
    grant_id: int
    pod_id: int
    container_id: int
    set_id: int
    file_inode: int
    exe_inode: int
    exe_device: int
    type: int
    reason: int
    action: int
    generation: int
    item: int
    tid: int
    tgid: int
    uid: int
    suppressed: int
    comm: bytes
    _fields_ = (
        ("time_ns", c_uint64),
        ("grant_id", c_uint64),
        ("pod_id", c_uint64),
        ("container_id", c_uint64),
        ("set_id", c_uint64),
        ("file_inode", c_uint64),
        ("exe_inode", c_uint64),
        ("exe_device", c_uint32),
        ("type", c_uint32),
        ("reason", c_uint32),
        ("action", c_uint32),
        ("generation", c_uint32),
        ("item", c_uint32),
        ("tid", c_uint32),
        ("tgid", c_uint32),
        ("uid", c_uint32),
        ("suppressed", c_uint32),
        ("comm", c_char * Limit.COMM_BYTES),
    )


class Counters(Structure):
    """`struct ks_counters`."""

    events_lost: int
    lineage_lost: int
    unknown_reads: int
    _fields_ = (
        ("events_lost", c_uint64),
        ("lineage_lost", c_uint64),
        ("unknown_reads", c_uint64),
        ("reserved", c_uint64),
    )


class About(Structure):
    """`struct ks_about`: what a restarted agent must know of maps that it did not make."""

    layout_version: int
    next_id: int
    node_key: Array[c_uint8]
    _fields_ = (
        ("layout_version", c_uint32),
        ("reserved", c_uint32),
        ("next_id", c_uint64),
        ("node_key", c_uint8 * 32),
    )


STRUCTS: dict[str, type[Structure]] = {
    "ks_step": Step,
    "ks_grant": Grant,
    "ks_sessions": Sessions,
    "ks_set": Set,
    "ks_file_key": FileKey,
    "ks_file": File,
    "ks_version_key": VersionKey,
    "ks_version": Version,
    "ks_chunk_key": ChunkKey,
    "ks_chunk": Chunk,
    "ks_binary_key": BinaryKey,
    "ks_pod": Pod,
    "ks_container": Container,
    "ks_round": Round,
    "ks_task": Task,
    "ks_event": Event,
    "ks_counters": Counters,
    "ks_about": About,
}

ENUMS: dict[str, tuple[str, type[IntEnum]]] = {
    "ks_limit": ("KS_", Limit),
    "ks_from": ("KS_FROM_", FromCode),
    "ks_action": ("KS_ACTION_", ActionCode),
    "ks_reason": ("KS_REASON_", Reason),
    "ks_event_type": ("KS_EVENT_", EventType),
    "ks_task_flag": ("KS_TASK_", TaskFlag),
    "ks_pod_flag": ("KS_POD_", PodFlag),
}
