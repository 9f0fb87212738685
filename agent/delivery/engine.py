"""What every engine does for a volume. One small interface; the engines differ in where the bytes are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from agent.delivery.state import VolumeState
from agent.model import EngineName, FilePlan, FileRead, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Refused

Versions = Mapping[SecretRef, SecretVersion]


class BehindError(Refused):
    """Some volumes could not be given a new version, and show their last; all others show it. `changed` are the keys
    whose value changed in those, `volume_ids` the ones that are behind. No volume is named in its words: the pods of
    all of them may hear it."""

    def __init__(self, why: Refused, volume_ids: Iterable[str], changed: Iterable[str]) -> None:
        super().__init__(why.code, why.field, why.why, why.fix)
        self.volume_ids, self.changed = tuple(volume_ids), frozenset(changed)


class Engine(Protocol):
    """Serves volumes. Synchronous but for `end`, which may wait for the kernel."""

    name: EngineName
    enforces_access: bool
    """Whether the access rule holds here; an engine that cannot hold it serves only where the interceptor waives it."""

    needs_values: bool
    """Whether a volume whose right returns has to be written anew; else its secrets were followed all the time."""

    def begin(self, plan: VolumePlan, versions: Versions) -> VolumeState:
        """Make the volume and show it at its target; raises and leaves what `end` clears."""

    def show(self, state: VolumeState) -> None:
        """Mount the volume at its target where it is not mounted there. Idempotent."""

    async def end(self, state: VolumeState) -> None:
        """Take the volume away, however far it had come. Idempotent."""

    def rotate(self, version: SecretVersion, volumes: Iterable[VolumeState]) -> set[str]:
        """Show a new version in these volumes; the keys whose value changed. All or nothing for each volume. Raises
        BehindError where one cannot be given it for a reason of its own, after all others were."""

    def close(self, state: VolumeState) -> None:
        """The pod's right has ended, and its policy is to refuse: nobody reads from now on. Idempotent."""

    def reopen(self, state: VolumeState, versions: Versions) -> None:
        """The right has returned: these versions, which are whole and current, are read again. Idempotent."""

    def is_closed(self, state: VolumeState) -> bool:
        """Whether readers are refused, whoever closed the volume."""

    def keep(self, state: VolumeState) -> VolumeState:
        """The right has ended, and its policy is to keep: prepare that the volume shows what it shows now, whatever
        others who share its secrets get. What is returned holds after `apply`, and has to be saved before it."""

    def follow(self, state: VolumeState, versions: Versions) -> VolumeState:
        """The right has returned to a volume that kept its values: prepare that it shows these versions, and later
        ones. As `keep`."""

    def apply(self, state: VolumeState) -> None:
        """Let readers meet what `keep` or `follow` prepared. Idempotent."""

    def sizes(self, state: VolumeState) -> list[int]:
        """Bytes of the current value of each file, in the plan's order."""

    def generation(self, ref: SecretRef) -> int:
        """The number of the secret's version as it is shown now; 0 where the engine shows none, or counts none."""

    def reads(self, state: VolumeState, ref: SecretRef) -> list[tuple[FilePlan, FileRead]]:
        """What is known of the readers of each file that shows the secret, in the plan's order."""

    def is_whole(self, state: VolumeState, mounted: set[str]) -> bool:
        """Whether a published volume of an earlier agent is still there; `mounted` are the node's mount points."""
