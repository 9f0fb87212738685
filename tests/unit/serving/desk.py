"""The parts that serve volumes as the agent puts them together, over an engine, a source and a cluster in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from agent.credentials import Credentials, PodToken
from agent.delivery.engine import Versions
from agent.delivery.notify import Notifier
from agent.delivery.shims import Shims
from agent.delivery.state import StateFiles, VolumeState
from agent.delivery.volumes import Volumes
from agent.kube.cluster import LivePod
from agent.model import (
    EngineName,
    FilePlan,
    FileRead,
    Observer,
    PodRef,
    PublishRequest,
    SecretRef,
    SecretVersion,
    SourceFacts,
    VolumePlan,
)
from agent.parts import Parts, assemble
from agent.settings import Settings
from agent.teller import Teller
from agent.telling import Telling
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import Registration
from tests.unit.decision.test_decide import REGISTRATION, REQUEST
from tests.unit.delivery.test_volumes import MemoryEngine
from tests.unit.rights.test_rights import View

VALUES = {"username": b"user-1", "password": b"password-1"}


class MemorySource:
    """A source that does as it is told, and remembers who asked, watches, and what it was told."""

    def __init__(self, name: str = "file") -> None:
        self.name = name
        self.values: Mapping[str, bytes] = VALUES
        self.label = "version 1"
        self.fetched: list[SecretRef] = []
        self.observers: dict[SecretRef, Observer] = {}
        self.failure: Refused | None = None
        self.gate: asyncio.Event | None = None
        self.old_leases = 0
        self.read_by_all: list[tuple[SecretRef, str]] = []
        self.is_closed = False

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        self.fetched.append(ref)
        values, label = self.values, self.label
        if self.gate:
            await self.gate.wait()
        if self.failure:
            raise self.failure
        return SecretVersion(ref, values, label)

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        self.observers[ref] = observer

        def stop() -> None:
            self.observers.pop(ref, None)

        return stop

    def change(self, values: Mapping[str, bytes], label: str) -> None:
        """A new version, told to all who watch."""
        self.values, self.label = values, label
        for ref, observer in list(self.observers.items()):
            observer.changed(SecretVersion(ref, values, label))

    def nudge(self, path: str) -> int:
        return 0

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        if ref not in self.observers:
            return None
        return SourceFacts(self.label, read_ns=1, how="watch", old_leases=self.old_leases)

    def holds_old(self, ref: SecretRef) -> bool:
        return ref in self.observers and self.old_leases > 0

    def all_read(self, ref: SecretRef, label: str) -> None:
        self.read_by_all.append((ref, label))

    async def close(self) -> None:
        self.is_closed = True


class SeenEngine(MemoryEngine):
    """An engine that has the values that it was given, and that counts generations; `read` is what was read last."""

    def __init__(self, name: EngineName, states: StateFiles) -> None:
        super().__init__(name, states)
        self.values: dict[SecretRef, dict[str, bytes]] = {}
        self.generations: dict[SecretRef, int] = {}
        self.read: dict[SecretRef, int] = {}

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        state = super().begin(plan, versions)
        for ref, version in versions.items():
            self.values.setdefault(ref, {}).update(version.values)
            self.generations.setdefault(ref, 1)
        return state

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        self.rotated.append([state.plan.volume_id for state in volumes])
        held = self.values.setdefault(version.ref, {})
        changed = {key for key, value in version.values.items() if held.get(key) != value}
        held.update(version.values)
        if changed:
            self.generations[version.ref] = self.generations.get(version.ref, 0) + 1
        return changed

    def generation(self, ref: SecretRef) -> int:
        return self.generations.get(ref, 0)

    def reads(self, state: VolumeState, ref: SecretRef) -> list[tuple[FilePlan, FileRead]]:
        now = self.generations[ref]
        read = FileRead(now, since=now, read=self.read.get(ref, 0), oldest=now, follows=not state.ended)
        return [(file, read) for file in state.plan.files if file.ref == ref]


class RegisteredView(View):
    """A cluster that has a registration for every pod."""

    async def registration(self, pod: PodRef) -> Registration:
        lasts = datetime.now(UTC) + timedelta(minutes=1)
        return msgspec.structs.replace(REGISTRATION, pod_uid=pod.uid, name=pod.name, expires_at=lasts)


class ToldTeller(Teller):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, SecretRef]] = []

    def down(self, ref: SecretRef, why: str) -> None:
        self.told.append(("down", ref))

    def up(self, ref: SecretRef) -> None:
        self.told.append(("up", ref))

    def shown(self, ref: SecretRef) -> None:
        self.told.append(("shown", ref))

    def not_shown(self, ref: SecretRef, why: str, behind: Collection[str] | None = None) -> None:
        self.told.append(("not shown", ref))


class Desk:
    """An agent without a process. `request` is the documented example's; `publish` is kubelet's call."""

    def __init__(self, folder: Path, shims: Shims | None = None) -> None:
        settings = {"KERNELSECRET_NODE": "node-1", "KERNELSECRET_AUDIT_LOG": str(folder / "audit.jsonl")}
        self.telling = Telling(Settings.load(settings))
        states = StateFiles(folder / "states")
        self.engine = SeenEngine(EngineName.ITER, states)
        self.volumes = Volumes({EngineName.ITER: self.engine}, EngineName.ITER, states)
        self.shims = Shims(folder / "run", folder / "states") if shims is None else shims
        self.source, self.vault, self.kubernetes = map(MemorySource, ("file", "vault", "kubernetes"))
        self.view, self.teller = RegisteredView(), ToldTeller()
        self.credentials = Credentials(wall_clock=lambda: 1000.0)
        self.refusal: Refused | None = None
        self.verified: list[tuple[str, Mapping[str, str]]] = []
        self.parts: Parts = assemble(
            "node-1",
            self.volumes,
            self.shims,
            self.view,
            {one.name: one for one in (self.source, self.vault, self.kubernetes)},
            self.credentials,
            self._verify,
            Notifier(None, None),
            self.teller,
            self.telling,
        )
        self.parts.publisher.is_ready = True

    async def _verify(self, pod: PodRef, tokens: Mapping[str, str]) -> Mapping[str, PodToken]:
        self.verified.append((pod.uid, tokens))
        await asyncio.sleep(0)
        if self.refusal:
            raise self.refusal
        return {audience: PodToken(token, 2000.0) for audience, token in tokens.items()}

    async def publish(self, volume_id: str = "csi-1", uid: str = "uid-1", **tokens: str) -> None:
        """The example's pod, or one like it of another UID, asks for its volume."""
        pod = self.view.held["pod"]
        assert isinstance(pod, LivePod)
        self.view.held["pod"] = replace(pod, uid=uid)
        target = REQUEST.target_path
        if volume_id != "csi-1":
            target = Path(str(target).replace("uid-1", volume_id))
        await self.parts.publisher.publish(
            PublishRequest(
                volume_id, target, replace(REQUEST.pod, uid=uid), REQUEST.interceptor, REQUEST.fs_group, tokens
            )
        )

    async def unpublish(self, volume_id: str = "csi-1") -> None:
        """Kubelet takes it away."""
        await self.parts.publisher.unpublish(volume_id, REQUEST.target_path)

    def reasons(self) -> list[str]:
        """The conditions that hold."""
        return self.telling.conditions.reasons()

    async def close(self) -> None:
        """As at the agent's stop."""
        await self.parts.rotator.close()


AWAY = Refused(Code.UNAVAILABLE, "API server", "does not answer")
