"""What the agent asks of the cluster. Types only, no I/O; `agent.kube.files` answers from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agent.model import PodRef
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.registration import Registration


@dataclass(frozen=True, slots=True)
class CsiVolume:
    """One volume of our driver in a pod's spec: the interceptor that it names, None where it names none, and the
    containers that mount it, but for ephemeral ones, which come later. `is_shim`: it asks for the shim.
    """

    interceptor: str | None
    uses_sub_path: bool = False
    mounted_by: frozenset[str] = frozenset()
    is_shim: bool = False


@dataclass(frozen=True, slots=True)
class LivePod:
    """A pod as the cluster has it now."""

    uid: str
    namespace: str
    name: str
    service_account: str
    node: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, CsiVolume] = field(default_factory=dict)
    """The volumes of our driver, by `spec.volumes[].name`."""
    fs_group: int | None = None
    run_as_user: int | None = None
    """The user of every container, None where they differ or say nothing."""
    first_pid: int | None = None
    """The host's pid of the pod's first task, where the view is one that may say so (files that root owns)."""
    deleted: bool = False
    """Deletion was asked for; its containers may still run."""
    least_poll_s: float = 0.0
    """The least time between two looks at a source that its namespace asks for."""

    @property
    def uses_sub_path(self) -> bool:
        """Whether any container mounts any of our volumes by subPath or subPathExpr."""
        return any(volume.uses_sub_path for volume in self.volumes.values())


@dataclass(frozen=True, slots=True)
class LiveNamespace:
    """What of a namespace decides: its labels, and how often it lets sources be asked at most."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    least_poll_s: float = 0.0


class Cluster(Protocol):
    """The cluster as this node may see it. Every method raises Refused: NOT_FOUND for what is not there,
    FAILED_PRECONDITION for what is there and cannot be used, UNAVAILABLE where it cannot be asked now."""

    async def pod(self, namespace: str, name: str, uid: str = "", *, fresh: bool = False) -> LivePod:
        """The pod of that name, with the labels of its namespace. `uid` is the one that is meant: another that is held
        is not believed without asking anew. `fresh`: what is held is not enough."""

    async def interceptor(self, name: str, *, fresh: bool = False) -> SecretInterceptor:
        """The interceptor, valid."""

    async def registration(self, pod: PodRef) -> Registration:
        """What admission registered for the pod."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Look at the cluster until cancelled; call `changed` at the start and after what is seen has changed."""
