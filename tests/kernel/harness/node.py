"""A node as production opens it, in the test's own folder; synchronous, so that a test reads from top to bottom."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent.delivery.adoption import adopt
from agent.delivery.engine import Engine
from agent.delivery.state import KernelState, StateFiles, VolumeState
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.delivery.volumes import Volumes
from agent.kernel.layout import Event, EventType, Grant, Reason, Set
from agent.kernel.node import NodeFacts
from agent.kernel.programs import OBJECT, Tuning
from agent.kernel.ring import EventRing
from agent.model import AccessRule, EngineName, FilePlan, From, PodRef, SecretRef, SecretVersion, VolumePlan
from agent.node_kernel import VOLUMES, NodeKernel, open_kernel, remove
from tests.kernel.harness import eyes
from tests.kernel.harness.family import Actor, Family
from tests.kernel.harness.pods import SECRETS, PlainPod, Pod, host_actor
from tests.kernel.harness.waiting import wait_until

T = TypeVar("T")
ANYONE = AccessRule(From.ANY)
LONG_GRACE = Tuning(grace_ns=600 * 10**9)


def ref(name: str) -> SecretRef:
    """A secret of the tests' source."""
    return SecretRef("file", name)


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the kernel, kept."""

    type: EventType
    reason: Reason
    grant_id: int
    generation: int
    tgid: int
    comm: str
    suppressed: int
    action: int
    item: int
    pod_id: int


@dataclass
class Volume:
    """A published volume."""

    node: Node
    state: VolumeState

    @property
    def target(self) -> Path:
        """Where kubelet asked for it, on the node."""
        return self.state.plan.target_path

    @property
    def kernel(self) -> KernelState:
        """Its kernel side."""
        assert self.state.kernel is not None
        return self.state.kernel

    @property
    def grant(self) -> Grant:
        """Its grant, live."""
        return self.node.kernel.maps.grants[self.kernel.grant_slot]

    def set_of(self, name: str) -> Set:
        """The set of one of its secrets, live."""
        slot = next(shown.slot for shown in self.kernel.sets if shown.ref == ref(name))
        return self.node.kernel.maps.sets[slot]

    def refusals(self) -> dict[Reason, int]:
        """How often it refused, by reason."""
        return {Reason(index): count for index, count in enumerate(self.grant.refused) if count}


class Node:
    """The kernel side of one agent, and the pods on its node."""

    def __init__(self, folder: Path, facts: NodeFacts, tuning: Tuning = LONG_GRACE, object_path: Path = OBJECT) -> None:
        self.folder, self.facts = folder, facts
        self.run_dir = folder / "run"
        self.targets = folder / "targets"
        self.targets.mkdir()
        self.family = Family()
        self._runner = asyncio.Runner()
        self._numbers = itertools.count(1)
        self._pods: list[Pod] = []
        self.volumes: list[Volume] = []
        self.values: dict[SecretRef, dict[str, bytes]] = {}
        self.failures: list[BaseException] = []
        self.made: set[tuple[str, int]] = set()
        self._tuning, self._object_path = tuning, object_path
        self.kernel = self.run(self._open(tuning, object_path))
        self._told: list[Told] = []
        self._handled = 0
        self._ring = EventRing(self.kernel.maps.events_fd, self._tell)

    async def _open(self, tuning: Tuning, object_path: Path) -> NodeKernel:
        return open_kernel(self.run_dir, self.facts, self.failures.append, tuning, object_path)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the node's own loop."""
        return self._runner.run(work)

    # Pods

    def pod(self, **options: Any) -> Pod:
        """A new pod, without a container yet."""
        assert self.facts.cgroup is not None
        folder = self.folder / f"pod{next(self._numbers)}"
        folder.mkdir()
        pod = Pod(self.family, self.facts.cgroup.root, folder, **options)
        self._pods.append(pod)
        return pod

    def plain_pod(self) -> PlainPod:
        """A pod that has no cgroup."""
        return PlainPod(self.family)

    def move(self, actor: Actor, cgroup: Path) -> None:
        """Move a process from where it is to another cgroup."""
        (cgroup / "cgroup.procs").write_text(str(actor.pid))

    def process(self, cgroup: Path | None = None) -> Actor:
        """A process of the node that belongs to no pod."""
        return host_actor(self.family, cgroup=cgroup)

    # Volumes

    def publish(
        self,
        pod: Pod | PlainPod,
        secrets: Mapping[str, Mapping[str, bytes]],
        rule: AccessRule = ANYONE,
        *,
        at: str = SECRETS,
        mode: int = 0o444,
        **plan: Any,
    ) -> Volume:
        """A volume for a pod that shows every key of these secrets, under the key's name."""
        number = next(self._numbers)
        target = self.targets / f"target{number}"
        target.mkdir()
        versions = {}
        for name, values in secrets.items():
            shared = self.kernel.secrets.get(ref(name))
            known = {key: self.values[ref(name)][key] for key in shared.items} if shared else {}
            known = self.values[ref(name)] = {**values, **known}
            versions[ref(name)] = SecretVersion(ref(name), dict(known))
        files = [FilePlan(key, ref(name), key, mode) for name, values in secrets.items() for key in values]
        made = VolumePlan(
            volume_id=f"csi-{number}",
            target_path=target,
            pod=PodRef("shop", f"pod-{number}", pod.uid, "web"),
            interceptor="tests",
            files=tuple(files),
            access=rule,
            allow_unenforced=False,
            uses_sub_path=False,
            **plan,
        )
        volume = Volume(self, self.run(self._begin(made, versions)))
        self.volumes.append(volume)
        pod.volumes.append((target, at))
        return volume

    async def _begin(self, plan: VolumePlan, versions: Mapping[SecretRef, SecretVersion]) -> VolumeState:
        return self.kernel.engine.begin(plan, versions)

    def rotate(self, name: str = "db", **values: bytes) -> set[str]:
        """A new version of a secret, shown by every volume that shows the secret."""
        self.values[ref(name)].update(values)
        return self.run(self._rotate(SecretVersion(ref(name), dict(self.values[ref(name)]))))

    async def _rotate(self, version: SecretVersion) -> set[str]:
        showing = [v.state for v in self.volumes if any(file.ref == version.ref for file in v.state.plan.files)]
        return self.kernel.engine.rotate(version, showing)

    def retire(self) -> None:
        """What the graveyard does when time has passed: free every generation that is not current."""
        self.run(self.kernel.grave.flush())
        assert not self.failures

    def end(self, volume: Volume) -> None:
        """End a volume as an unpublish does, and free what it held."""
        self.volumes.remove(volume)
        self.run(self.kernel.engine.end(volume.state))
        self.retire()

    def restart(self) -> None:
        """What an agent finds that starts after another was killed, and what it does with it."""
        self._ring.close()
        self.kernel.close()
        self.kernel = self.run(self._open(self._tuning, self._object_path))
        self._ring = EventRing(self.kernel.maps.events_fd, self._tell)
        states, tmpfs = StateFiles(self.folder / "state"), TmpfsEngine(self.run_dir / VOLUMES)
        for volume in self.volumes:
            states.save(volume.state)
        engines: dict[EngineName, Engine] = {EngineName.ITER: self.kernel.engine, EngineName.TMPFS: tmpfs}
        adopted = self.run(adopt(Volumes(engines, EngineName.ITER, states), states, tmpfs, self.kernel.side()))
        assert adopted.kept == len(self.volumes)

    # What the kernel tells

    def _tell(self, event: Event) -> None:
        self._told.append(
            Told(
                EventType(event.type),
                Reason(event.reason),
                event.grant_id,
                event.generation,
                event.tgid,
                event.comm.decode(),
                event.suppressed,
                event.action,
                event.item,
                event.pod_id,
            )
        )

    def events(self, *types: EventType) -> list[Told]:
        """Every event so far, of these types where some are named."""
        self._ring.drain()
        return [told for told in self._told if not types or told.type in types]

    def wait_for_event(self, kind: EventType) -> Told:
        """The first event of a type."""
        wait_until(lambda: self.events(kind), f"an event {kind.name}")
        return self.events(kind)[0]

    def handle_starts(self, count: int = 1) -> None:
        """What the agent does when it hears that containers started: find their binaries and let them go on."""
        wait_until(lambda: len(self.events(EventType.STARTED)) >= self._handled + count, "containers that start")
        states = [volume.state for volume in self.volumes]
        for told in self.events(EventType.STARTED)[self._handled :]:
            self.kernel.binaries.started(told.pod_id, told.tgid, states)
            self._handled += 1

    def chunks(self) -> int:
        """Chunks of values in the kernel."""
        return sum(self.kernel.maps.chunk_owners().values())

    # The end

    def close(self) -> None:
        """Take everything off the node."""
        for pod in self._pods:
            pod.end_processes()
        self.family.close()
        for volume in list(self.volumes):
            self.end(volume)
        for pod in self._pods:
            pod.remove()
        self.made |= eyes.pinned_below(self.run_dir)
        self._ring.close()
        self.kernel.close()
        remove(self.run_dir, [])
        self._runner.close()
        # The tables are mapped for as long as something refers to them.
        del self.kernel, self._ring
        gc.collect()
