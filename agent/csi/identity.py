"""The services that only say who this plugin is: CSI's Identity and kubelet's plugin registration."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.wrappers_pb2 import BoolValue

from agent.csi.publisher import Log, Publisher
from agent.csi.wire import csi_pb2, pluginregistration_pb2
from kernelsecret.names import DRIVER_NAME
from telemetry.logkeys import Event

PLUGIN_TYPE = "CSIPlugin"
CSI_VERSIONS = ("1.0.0",)
"""What kubelet compares: it wants a version of major 1, and 1.0.0 is what every registrar says."""

MAX_PROBLEM = 512


class IdentityService:
    """CSI's Identity calls."""

    def __init__(self, publisher: Publisher, *, version: str) -> None:
        """`version` is the agent's own, for people to read."""
        self._publisher = publisher
        self._version = version

    async def info(self, message: csi_pb2.GetPluginInfoRequest) -> csi_pb2.GetPluginInfoResponse:
        """GetPluginInfo."""
        return csi_pb2.GetPluginInfoResponse(name=DRIVER_NAME, vendor_version=self._version)

    async def capabilities(
        self, message: csi_pb2.GetPluginCapabilitiesRequest
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        """GetPluginCapabilities: none, there is no controller."""
        return csi_pb2.GetPluginCapabilitiesResponse()

    async def probe(self, message: csi_pb2.ProbeRequest) -> csi_pb2.ProbeResponse:
        """Probe: false while earlier volumes are still being adopted; an error where the publisher is broken."""
        return csi_pb2.ProbeResponse(ready=BoolValue(value=await self._publisher.ready()))


class RegistrationService:
    """Kubelet finds its socket, asks where the CSI endpoint is, and says whether it took the plugin."""

    def __init__(self, endpoint: Path, log: Log) -> None:
        """`endpoint` is the CSI socket as kubelet sees it."""
        self._endpoint = endpoint
        self._log = log
        self.registered: bool | None = None
        """What kubelet said last; None while it has said nothing."""

    async def info(self, message: pluginregistration_pb2.InfoRequest) -> pluginregistration_pb2.PluginInfo:
        """GetInfo."""
        return pluginregistration_pb2.PluginInfo(
            type=PLUGIN_TYPE, name=DRIVER_NAME, endpoint=str(self._endpoint), supported_versions=CSI_VERSIONS
        )

    async def status(
        self, message: pluginregistration_pb2.RegistrationStatus
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        """NotifyRegistrationStatus."""
        self.registered = message.plugin_registered
        if message.plugin_registered:
            self._log.info(Event.REGISTERED, endpoint=str(self._endpoint))
        else:
            self._log.error(Event.REGISTRATION_REFUSED, problem=ascii(message.error[:MAX_PROBLEM]))
        return pluginregistration_pb2.RegistrationStatusResponse()
