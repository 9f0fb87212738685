"""The values that the agent's rooms hand to each other. No I/O here, no decision either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from kernelsecret.interceptor import Mode
from kernelsecret.shapes import Shape


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod as kubelet names it in a CSI request."""

    namespace: str
    name: str
    uid: str
    service_account: str


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A validated NodePublishVolume. Tokens are credentials: they never show in `repr` or in state files."""

    volume_id: str
    target_path: Path
    pod: PodRef
    interceptor: str
    fs_group: int | None = None
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ShimRequest:
    """A validated NodePublishVolume of the shim's volume: it holds no secret, so it names no interceptor."""

    volume_id: str
    target_path: Path
    pod: PodRef


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """One secret of one source, for example `file:payments/db`. It has one or more keys.

    `reader` is who reads it, `namespace/account`, where values are read as the pod: what two accounts read are two
    secrets, each with a right of its own, also where the bytes are the same (which are stored once). Empty where the
    agent reads for all: only such a secret can be fetched before there is a request, which brings the credential.
    """

    source: str
    path: str
    reader: str = ""

    def __str__(self) -> str:
        return f"{self.source}:{self.path}" + (f" as {self.reader}" if self.reader else "")


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """All keys of one secret at one moment. `label` is the source's own name of the version, never the value."""

    ref: SecretRef
    values: Mapping[str, bytes] = field(repr=False)
    label: str = ""
    changed_ns: int = 0
    """CLOCK_MONOTONIC nanoseconds when the source was seen to change; 0 when it was not seen (first fetch)."""


class Observer(Protocol):
    """Whoever wants to know that a secret changed. Called on the event loop, in order."""

    def changed(self, version: SecretVersion) -> None:
        """A new, complete version was read."""

    def failed(self, ref: SecretRef, problem: str) -> None:
        """The source cannot be read now; the last good version goes on being served."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a source knows of a secret that it watches, for people: never a value."""

    label: str = ""
    """The source's own name of the version it last read."""
    read_ns: int = 0
    """CLOCK_REALTIME nanoseconds when the source last said that this is the current version."""
    how: str = ""
    """How changes are noticed, for example `metadata every 1s`, `lease`, `watch`."""
    lease_ends_ns: int = 0
    """CLOCK_REALTIME nanoseconds when the credentials end unless they are renewed; 0 where there is no lease."""
    old_leases: int = 0
    """Leases of earlier versions that are not revoked yet."""
    problem: str = ""
    """Why the last attempt failed; empty where it did not."""


class Safe(Protocol):
    """Blobs that outlive the agent's process but not the node's boot, in nobody's sight: tokens, lease ids, values.

    Synchronous and small: a name has at most 128 bytes of any text, a blob at most 64 KiB.
    """

    def put(self, name: str, blob: bytes) -> None:
        """Store or replace, as a whole. Raises Refused (RESOURCE_EXHAUSTED) where it does not fit; what was there
        stays then."""

    def get(self, name: str) -> bytes | None:
        """What was stored under the name."""

    def drop(self, name: str) -> None:
        """Wipe and forget. Idempotent."""

    def names(self) -> list[str]:
        """Every name, sorted."""


class Source(Protocol):
    """Where values come from. One implementation for each of `file`, `vault`, `kubernetes`."""

    name: str

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """The current version, complete; raises Refused with the field named where there is none."""

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        """Tell the observer of every later version until the returned function is called (idempotent)."""

    def nudge(self, path: str) -> int:
        """Somebody says that the secret at this path (as the interceptor names it) has changed: look at once. How many
        watched secrets that are."""

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        """What is known of a watched secret, None where it is not watched."""

    def holds_old(self, ref: SecretRef) -> bool:
        """Whether earlier versions of a watched secret hold something (leases) that waits for `all_read`. Asked of
        every secret each second, so it costs next to nothing."""

    def all_read(self, ref: SecretRef, label: str) -> None:
        """Every reader has the version of this label: what earlier versions hold (leases) may end. Idempotent."""

    async def close(self) -> None:
        """Stop watching everything and free what is held."""


class EngineName(Enum):
    """How a node serves a volume; the value is the node label's."""

    ITER = "iter"
    TMPFS = "tmpfs"


class OnUnavailable(Enum):
    """`delivery.onUnavailable`: what readers meet once the pod's right has ended, the last value or a refusal."""

    KEEP = "keep"
    REFUSE = "refuse"


class From(Enum):
    """`access.from`: which processes of the pod may read."""

    APP = "app"
    MAIN = "main"
    ANY = "any"
    BINARIES = "binaries"


class Action(Enum):
    """`access.action`: what a refused reader meets. `audit` serves, and only records."""

    DENY = "deny"
    KILL = "kill"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Who in the pod may read: its lineage satisfies `from_`, or its executable is one of `binaries` (absolute)."""

    from_: From = From.APP
    binaries: tuple[str, ...] = ()
    action: Action = Action.DENY


@dataclass(frozen=True, slots=True)
class Notify:
    """The signal that tells of a rotation, and who gets it: `main` (a container's first program) or an executable."""

    signal: int
    process: str = "main"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file of a volume: its name in the volume, where its bytes come from, and its mode (for example 0o440).

    `key` names the value among the secret's values; with a `shape` it is the shape's item, which is made from them.
    """

    name: str
    ref: SecretRef
    key: str
    mode: int
    shape: Shape | None = None
    secret: str = field(default="", compare=False)
    """What the interceptor calls the secret, for people: it is no part of what the file shows."""


@dataclass(frozen=True, slots=True)
class FileRead:
    """What an engine knows of the readers of one file, in generations of its secret: they count from 1, and each is one
    version as it was shown. Engines that see no reads leave all at 0."""

    current: int = 0
    """What those who follow the secret are shown."""
    since: int = 0
    """The generation that brought the file's current value: from it on the bytes are the same."""
    read: int = 0
    """The last that somebody read to its end; 0 where nobody ever has."""
    oldest: int = 0
    """The oldest that somebody who reads from now on can still get."""
    follows: bool = True
    """Whether the volume is given new versions: False once its pod's right has ended and it keeps what it showed."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Upper bounds; `bytes_` counts the values' sizes. `None` is no bound."""

    bytes_: int | None = None
    files: int | None = None
    volumes: int | None = None


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What was decided for one volume: all that an engine needs, and nothing that it may change."""

    volume_id: str
    target_path: Path
    pod: PodRef
    interceptor: str
    files: tuple[FilePlan, ...]
    access: AccessRule
    allow_unenforced: bool
    """The interceptor waives the access rule in writing, so that an engine which cannot enforce it may serve."""
    uses_sub_path: bool
    owner_uid: int = 0
    fs_group: int | None = None
    notify: Notify | None = None
    open_files: int = 256
    min_interval_s: float = 0.0
    namespace_quota: Quota = Quota()
    pod_quota: Quota = Quota()
    first_pid: int | None = None
    """Where the pod has no cgroup: the host pid of its first task, whose namespaces then are the pod's identity."""
    max_file_bytes: int = 1 << 20
    """A value of more bytes is refused at a publish; at a rotation it is shown, and told."""
    on_unavailable: OnUnavailable = OnUnavailable.KEEP
    poll_s: float = 1.0
    """How often a source is asked that cannot tell by itself."""
    revoke_after_s: float = 300.0
    """When old leases end although not every reader has read the new values."""
    mode: Mode = Mode.EBPF
    """What admission chose for the pod. State files of agents that knew one mode only do not say it."""
