"""What happened, as typed records: the only things that the audit log and `trace` can show. No I/O here.

No field of a record can hold a secret's value on purpose: there is none to put it in. `comm` is chosen by the process
itself and is the only field of raw bytes; it is at most 16 of them and is shown escaped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import ClassVar, get_args

import msgspec

from telemetry.text import clean, rfc3339

COMM_BYTES = 16


class Kind(StrEnum):
    """Whether the reader got the bytes. Under `action: audit` a broken rule is `served` and still names the rule."""

    SERVED = "served"
    REFUSED = "refused"


class Rule(StrEnum):
    """Which rule a reader broke (`none`: it passed)."""

    NONE = "none"
    POD = "pod"  # the reader is not in the pod of the grant
    APP = "app"  # it entered from outside, or descends from a process that did
    MAIN = "main"  # it is not the container's first task, nor a fork of it
    BINARIES = "binaries"  # its executable is not one of those named
    GRANT = "grant"  # no grant, or one of an earlier volume with the same number
    OPEN_FILES = "open-files"  # more files open half-read than the grant allows
    VERSION = "version"  # the version that it had begun to read is gone
    ENDED = "ended"  # the pod's right to the volume has ended, and its interceptor says to refuse then
    INTERNAL = "internal"  # the program met what it does not understand, and fails closed


class Action(StrEnum):
    """What the kernel did about it."""

    NONE = "none"
    DENY = "deny"
    KILL = "kill"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecord:
    """The kernel's word on one read.

    `time_ns` is CLOCK_REALTIME; pid and uid are the host's; `exe_device` as st_dev has it.
    """

    event: ClassVar[str] = "read"
    time_ns: int
    kind: Kind
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    file: str
    pid: int
    uid: int
    comm: bytes
    exe_inode: int
    exe_device: int
    rule: Rule = Rule.NONE
    action: Action = Action.NONE
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A volume was published for a pod."""

    event: ClassVar[str] = "published"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    service_account: str
    interceptor: str
    engine: str
    files: int
    bytes_: int
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRefused:
    """A volume was asked for and refused: `code`, `field` and `why` are those of `kernelsecret.errors.Refused`."""

    event: ClassVar[str] = "publish-refused"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    interceptor: str
    code: str
    field: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """A volume ended. `reason` is `requested` (kubelet asked) or `orphan` (it belonged to no pod)."""

    event: ClassVar[str] = "unpublished"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """One version of one secret took the place of another in `volumes` volumes, `duration_us` after the source
    changed. `version` is the source's name of it, never the value.
    """

    event: ClassVar[str] = "rotated"
    time_ns: int
    source: str
    secret: str
    keys: int
    volumes: int
    duration_us: int
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A restarted agent took over a volume that it found."""

    event: ClassVar[str] = "adopted"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    engine: str
    files: int
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedUnenforced:
    """A volume of the mode `ebpf` was published by an engine that cannot hold the access rule `access`, because its
    interceptor waives the rule. `why` says what keeps this node from holding it."""

    event: ClassVar[str] = "served-unenforced"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    interceptor: str
    engine: str
    access: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RightEnded:
    """A running pod's right to a volume has ended: `field` and `why` say by what, `policy` what its readers meet now
    (`keep`: the last value, `refuse`: refusals).
    """

    event: ClassVar[str] = "right-ended"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    interceptor: str
    policy: str
    field: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RightReturned:
    """The right to a volume is there again, and the volume shows current values."""

    event: ClassVar[str] = "right-returned"
    time_ns: int
    volume_id: str
    namespace: str
    pod: str
    pod_uid: str
    interceptor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramUnaffected:
    """A pod in mode `preload` runs a program that the shim does not reach: `why` is a word of
    `agent.preload.judging.Why`. Told once for each program of a pod.
    """

    event: ClassVar[str] = "program-unaffected"
    time_ns: int
    namespace: str
    pod: str
    pod_uid: str
    program: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRefused:
    """Somebody brought a registration that was not taken. `pod_uid` is what was claimed, so it may be anything."""

    event: ClassVar[str] = "registration-refused"
    time_ns: int
    pod_uid: str
    code: str
    field: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLimit:
    """The kernel said no (a full map, ENOMEM, EMFILE): `call` is what was tried, `errno` its name; the last good value
    is served on.
    """

    event: ClassVar[str] = "kernel-limit"
    time_ns: int
    call: str
    errno: str
    volume_id: str = ""
    namespace: str = ""


Record = (
    ReadRecord
    | Published
    | PublishRefused
    | Unpublished
    | Rotated
    | Adopted
    | ServedUnenforced
    | RightEnded
    | RightReturned
    | ProgramUnaffected
    | RegistrationRefused
    | KernelLimit
)
RECORD_TYPES: tuple[type, ...] = get_args(Record)

Shown = str | int


def shown(record: Record) -> Mapping[str, Shown]:
    """The record as flat JSON-ready fields, text escaped and cut.

    Raises TypeError, which names the field and never its content, where something else than the declared types got in.
    """
    if type(record) not in RECORD_TYPES:
        raise TypeError("not one of the known record types")
    result: dict[str, Shown] = {"time": "", "event": record.event}
    for column in fields(record):
        value = getattr(record, column.name)
        name = column.name.removesuffix("_")
        if column.type not in ("int", "bytes", "str", "Kind", "Rule", "Action"):
            raise TypeError(f"{record.event}.{name}: a record has no such type of field")
        if column.type == "int" and type(value) is int:
            result[name] = value
        elif column.type == "bytes" and type(value) is bytes:
            result[name] = clean(value[:COMM_BYTES])
        elif column.type == "str" and type(value) is str:
            result[name] = clean(value)
        elif isinstance(value, Kind | Rule | Action) and type(value).__name__ == column.type:
            result[name] = value.value
        else:
            raise TypeError(f"{record.event}.{name}: not of the declared type")
    result["time"] = rfc3339(record.time_ns)
    del result["time_ns"]
    if isinstance(record, ReadRecord):
        result["exe_device"] = f"{os.major(record.exe_device)}:{os.minor(record.exe_device)}"
    return result


def to_line(record: Record) -> bytes:
    """One JSON line, newline included. Raises TypeError like `shown`."""
    return msgspec.json.encode(shown(record)) + b"\n"
