"""What the tests of the CSI door share: a publisher in memory, and the door opened on real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.csi.client import KubeletClient, publish_message, target_path_of
from agent.csi.driver import NodeService
from agent.csi.identity import IdentityService, RegistrationService
from agent.csi.paths import KubeletTargets
from agent.csi.server import CsiServer, CsiSettings
from agent.csi.wire import csi_pb2
from agent.model import PodRef, PublishRequest, ShimRequest
from kernelsecret.errors import Refused

T = TypeVar("T")
UID = "0b0b0b0b-1111-2222-3333-444444444444"
POD = PodRef(namespace="shop", name="web-0", uid=UID, service_account="web")
VOLUME_ID = "csi-" + "ab" * 32
CANARY = "eyJ-token-canary"
TOKENS = f'{{"vault": {{"token": "{CANARY}", "expirationTimestamp": "2030-01-01T00:00:00Z"}}}}'


def outcome(call: Callable[[], T]) -> T | Refused:
    """What the call returns, or how it refuses."""
    try:
        return call()
    except Refused as error:
        return error


class MemoryPublisher:
    """The other side of the port: volumes are entries of a dictionary."""

    def __init__(self) -> None:
        self.volumes: dict[str, PublishRequest | ShimRequest] = {}
        self.calls: Counter[str] = Counter()
        self.error: Exception | None = None
        self.is_ready = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.finished = asyncio.Event()

    async def _step(self, name: str) -> None:
        self.calls[name] += 1
        self.entered.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def publish(self, request: PublishRequest | ShimRequest) -> None:
        try:
            await self._step("publish")
            self.volumes[request.volume_id] = request
        finally:
            self.finished.set()

    async def unpublish(self, volume_id: str, target_path: Path) -> None:
        await self._step("unpublish")
        self.volumes.pop(volume_id, None)

    async def ready(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.is_ready


@dataclass
class MemoryLog:
    """Remembers every line as text."""

    lines: list[str] = field(default_factory=list)

    def info(self, event: str, **fields: str | int | float) -> None:
        self.lines.append(f"info {event} {fields}")

    def warning(self, event: str, **fields: str | int | float) -> None:
        self.lines.append(f"warning {event} {fields}")

    def error(self, event: str, **fields: str | int | float) -> None:
        self.lines.append(f"error {event} {fields}")


@dataclass
class Door:
    """An open door and all that is behind it."""

    root: Path
    at: CsiSettings
    publisher: MemoryPublisher
    registration: RegistrationService
    server: CsiServer
    log: MemoryLog
    observed: list[tuple[str, str]]

    def client(self) -> KubeletClient:
        return KubeletClient(self.at.csi_socket)

    @property
    def target(self) -> Path:
        return target_path_of(self.root, UID, "secrets")


def make_kubelet_folder(root: Path, volume: str = "secrets") -> Path:
    """What kubelet makes before it calls; returns the target path, which the driver makes."""
    target = target_path_of(root, UID, volume)
    target.parent.mkdir(parents=True, mode=0o750)
    return target


def message(root: Path, volume_id: str = VOLUME_ID, tokens: str | None = TOKENS) -> csi_pb2.NodePublishVolumeRequest:
    """A publish that is right in every field."""
    target = target_path_of(root, UID, "secrets")
    return publish_message(volume_id, target, POD, "shop-db", fs_group=2000, tokens_json=tokens)


def make_door(root: Path, *, allowed_uid: int = 0) -> Door:
    """A door that is not open yet, with kubelet's folders below `root`."""
    publisher, log = MemoryPublisher(), MemoryLog()
    at = CsiSettings(
        csi_socket=root / "plugins" / "csi.kernelsecret.io" / "csi.sock",
        registration_socket=root / "plugins_registry" / "csi.kernelsecret.io-reg.sock",
        allowed_uid=allowed_uid,
    )
    observed: list[tuple[str, str]] = []
    node = NodeService(
        publisher,
        KubeletTargets(root),
        log,
        node_id="node-1",
        kubelet_root=root,
        max_volumes=1000,
        observe=lambda call, code, seconds: observed.append((call, code)),
    )
    registration = RegistrationService(at.csi_socket, log)
    server = CsiServer(node, IdentityService(publisher, version="1.2.3"), registration, log, at)
    return Door(root, at, publisher, registration, server, log, observed)


@asynccontextmanager
async def open_door(root: Path, *, allowed_uid: int = 0) -> AsyncIterator[Door]:
    """A door on real sockets, closed at the end."""
    door = make_door(root, allowed_uid=allowed_uid)
    await door.server.start()
    try:
        yield door
    finally:
        door.publisher.gate.set()
        await door.server.stop(5)
