"""What this node can do, found by doing it: make a canary volume, read it, be refused, and hear of both.

Never by version or by a successful attach: under lockdown, or with a kernel built otherwise, those lie.
"""

from __future__ import annotations

import errno
import os
import secrets
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent.delivery import mounts
from agent.delivery.iter_engine import IterEngine
from agent.delivery.pods import Pods
from agent.kernel.layout import Event, EventType, FromCode
from agent.kernel.node import NodeFacts
from agent.kernel.ring import EventRing
from agent.model import AccessRule, EngineName, FilePlan, From, PodRef, SecretRef, SecretVersion, VolumePlan
from agent.node_kernel import VOLUMES, NodeKernel
from kernelsecret.errors import KernelSecretError

CANARY = SecretRef("probe", "canary")
SEEN_BY_NOBODY = "probe"


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What was found. `reason` says why the engine is not `iter`, in an operator's words; empty where it is."""

    engine: EngineName
    reason: str
    kernel: str
    lockdown: str
    btf: bool
    cgroup_version: int | None
    idmapped: str = "none"
    """The engine that was seen to serve pods with a user namespace of their own, or `none`: see agent.idmapped."""
    idmapped_reason: str = ""
    """Why that is none, in an operator's words; empty where it is not."""

    def as_status(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"engine": self.engine.value}


class ProbeFailed(KernelSecretError):
    """The canary did not do what a secret must do; the text says what it did instead."""


PASSING = frozenset(
    (
        *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE),
        *(errno.EROFS, errno.ETIMEDOUT),
    )
)
"""What a kernel says that can, and does not just now."""


def may_pass(error: BaseException) -> bool:
    """Whether a probe that failed so may succeed later without anybody changing the node's kernel. Pure."""
    return getattr(error, "errno", None) in PASSING


def report(facts: NodeFacts, reason: str) -> ProbeReport:
    """The report of a probe that ended with `reason` (empty: everything worked)."""
    engine = EngineName.TMPFS if reason else EngineName.ITER
    cgroup = facts.cgroup.version if facts.cgroup else None
    return ProbeReport(engine, reason, facts.kernel, facts.lockdown, facts.has_btf, cgroup)


async def probe(kernel: NodeKernel, run_dir: Path) -> None:
    """Serve a canary to this process. Raises ProbeFailed, KernelError or MountError where that does not work."""
    # By namespaces: this process has no pod, and no cgroup that could be taken for one.
    engine = IterEngine(
        run_dir / VOLUMES,
        run_dir / "bpf",
        kernel.programs,
        kernel.maps,
        kernel.secrets,
        Pods(kernel.maps, None),
        kernel.grave,
    )
    target = run_dir / SEEN_BY_NOBODY
    target.mkdir(exist_ok=True)
    # One that died in its probe left its canary mounted here; what else it left, adoption clears.
    for _ in mounts.mounts_below(target, mounts.read_mounts()):
        with suppress(mounts.MountError):
            mounts.unmount(target)
    canary = secrets.token_bytes(64)
    plan = _plan(target)
    state = engine.begin(plan, {CANARY: SecretVersion(CANARY, {"canary": canary})})
    try:
        assert state.kernel is not None
        grant = kernel.maps.grants[state.kernel.grant_slot]
        _expect_served(target / "canary.txt", canary)
        grant.from_ = FromCode.BINARIES
        _expect_refused(target / "canary.txt")
        _expect_events(kernel, state.kernel.grant_id)
    finally:
        await engine.end(state)
        await kernel.grave.flush()
        target.rmdir()


def _plan(target: Path) -> VolumePlan:
    uid = str(uuid.uuid4())
    return VolumePlan(
        volume_id=f"probe-{uid}",
        target_path=target,
        pod=PodRef("kernelsecret", "probe", uid, "probe"),
        interceptor="probe",
        files=(FilePlan("canary.txt", CANARY, "canary", 0o400),),
        access=AccessRule(From.ANY),
        allow_unenforced=False,
        uses_sub_path=False,
        first_pid=os.getpid(),
    )


def _expect_served(path: Path, canary: bytes) -> None:
    try:
        found = path.read_bytes()
    except OSError as error:
        raise ProbeFailed(f"a canary could not be read ({errno.errorcode.get(error.errno or 0)})") from error
    if found != canary:
        raise ProbeFailed("a canary was read, but not what was written")


def _expect_refused(path: Path) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        if error.errno == errno.E2BIG:
            return
        raise ProbeFailed(f"a refused canary gave {errno.errorcode.get(error.errno or 0)}, not E2BIG") from error
    raise ProbeFailed("a canary was served to a reader that the rule refuses")


def _expect_events(kernel: NodeKernel, grant_id: int) -> None:
    seen: set[int] = set()

    def note(event: Event) -> None:
        if event.grant_id == grant_id:
            seen.add(event.type)

    ring = EventRing(kernel.maps.events_fd, note)
    try:
        ring.drain()
    finally:
        ring.close()
    if missing := {EventType.SERVED, EventType.REFUSED} - seen:
        raise ProbeFailed(f"no event came of a canary that was {sorted(kind.name.lower() for kind in missing)[0]}")
