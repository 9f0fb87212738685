"""What every engine does for a volume. One small interface; the engines differ in where the bytes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from agent.delivery.state import VolumeState
from agent.model import EngineName, SecretRef, SecretVersion, VolumePlan

Versions = Mapping[SecretRef, SecretVersion]


class Engine(Protocol):
    """Serves volumes. Synchronous but for `end`, which may wait for the kernel."""

    name: EngineName
    enforces_access: bool
    """Whether the access rule holds here; an engine that cannot hold it serves only where the interceptor waives it."""

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        """Make the volume and show it at its target; raises and leaves what `end` clears."""

    def show(self, state: VolumeState) -> None:
        """Mount the volume at its target where it is not mounted there. Idempotent."""

    async def end(self, state: VolumeState) -> None:
        """Take the volume away, however far it had come. Idempotent."""

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        """Show a new version in these volumes; the keys whose value changed. All or nothing for each volume."""

    def sizes(self, state: VolumeState) -> list[int]:
        """Bytes of the current value of each file, in the plan's order."""

    def is_whole(self, state: VolumeState, mounted: set[str]) -> bool:
        """Whether a published volume of an earlier agent is still there; `mounted` are the node's mount points."""
