"""What the CSI door needs from the rest of the agent. Types only, no I/O."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.model import PublishRequest, ShimRequest


class Publisher(Protocol):
    """Makes and takes away volumes. Every call is idempotent, and one at a time for each volume.

    A call is never cancelled from here: where kubelet gives up waiting, it still runs to its end. What cannot be
    granted is raised as `kernelsecret.errors.Refused`, whose text is shown to the pod's owner.
    """

    async def publish(self, request: PublishRequest | ShimRequest) -> None:
        """Serve the volume at the request's target path, which exists; the same again is a refresh of its tokens."""

    async def unpublish(self, volume_id: str, target_path: Path) -> None:
        """Take the volume away and unmount its target path; a volume that never was is no error."""

    async def ready(self) -> bool:
        """Whether publishing can work now: the engine was probed and earlier volumes were adopted."""


class Targets(Protocol):
    """The folders that volumes are mounted on, as kubelet's mount namespace sees them."""

    def ensure(self, target_path: Path) -> bool:
        """Make the folder if it is missing, and tell whether it was; raises Refused for a path that leads elsewhere."""

    def check(self, target_path: Path) -> None:
        """Raise Refused for a path that leads elsewhere; what is missing is no error."""

    def remove(self, target_path: Path) -> None:
        """Remove the folder, which is empty and no longer mounted on; one that never was is no error."""


class Log(Protocol):
    """Where the door writes: events and keys of `telemetry.logkeys`, one plain value a key, never a message."""

    def info(self, event: str, **fields: str | int | float) -> object:
        """Something ordinary."""

    def warning(self, event: str, **fields: str | int | float) -> object:
        """Something that an operator may want to look at."""

    def error(self, event: str, **fields: str | int | float) -> object:
        """Something that is broken."""


CallObserver = Callable[[str, str, float], None]
"""Told of every finished publish and unpublish: the call's name, the gRPC code's name, seconds. Must not raise."""


def no_observer(call: str, code: str, seconds: float) -> None:
    """Observe nothing."""
