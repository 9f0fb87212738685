"""The doors that the agent opens on its node: kubelet's CSI socket, the admin socket, health and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from agent.csi.driver import NodeService
from agent.csi.identity import IdentityService, RegistrationService
from agent.csi.paths import KubeletTargets
from agent.csi.server import CsiServer, CsiSettings
from agent.observe.admin import AdminServer
from agent.observe.health import HealthServer
from agent.publisher import NodePublisher
from agent.settings import Settings
from agent.telling import Telling
from telemetry.logs import get_logger

STOP_GRACE_S = 5.0
VERSION = "0.1.0"


async def open_doors(
    settings: Settings,
    publisher: NodePublisher,
    telling: Telling,
    status: Callable[[], Mapping[str, Any]],
    closing: AsyncExitStack,
) -> None:
    """Answer from now on, whoever asks first. Raises Refused where a socket or a port cannot be had."""
    csi_log, metrics = get_logger("csi"), telling.metrics

    def observe(call: str, code: str, seconds: float) -> None:
        if call == "publish":
            metrics.publish("ok" if code == "OK" else code, seconds)

    node = NodeService(
        publisher,
        KubeletTargets(settings.kubelet_dir),
        csi_log,
        node_id=settings.node,
        kubelet_root=settings.kubelet_dir,
        observe=observe,
    )
    server = CsiServer(
        node,
        IdentityService(publisher, version=VERSION),
        RegistrationService(settings.csi_socket, csi_log),
        csi_log,
        CsiSettings(settings.csi_socket, settings.registration_socket),
    )
    address = settings.http_address
    health = HealthServer(address.host, address.port, metrics, telling.conditions, publisher.ready)
    admin = AdminServer(settings.admin_socket, status, telling.hub)
    for part in (health, admin):
        await part.start()
        closing.push_async_callback(part.stop)
    await server.start()
    closing.push_async_callback(server.stop, STOP_GRACE_S)
