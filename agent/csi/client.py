"""Kubelet's side of the contract, for the demonstration, the benchmarks and the tests: a client on unix sockets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from agent.csi import request as keys
from agent.csi.tokens import TOKENS_KEY
from agent.csi.wire import csi_pb2, pluginregistration_pb2
from agent.model import PodRef
from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM, ATTRIBUTE_SHIM_YES

_Out = TypeVar("_Out", bound=Message)


class CallError(Exception):
    """The driver's answer was an error: `code` is gRPC's name of it, `details` the text that kubelet would show."""

    def __init__(self, code: str, details: str) -> None:
        self.code = code
        self.details = details
        super().__init__(f"{code}: {details}")


class KubeletClient:
    """Calls a CSI or registration socket as kubelet does. Every call raises CallError for an answer other than OK."""

    def __init__(self, socket: Path, *, options: Sequence[tuple[str, Any]] = ()) -> None:
        """`options` are gRPC channel arguments. Nothing is connected before the first call."""
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1), *options]
        )

    async def __aenter__(self) -> KubeletClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._channel.close()

    async def call(self, method: str, message: Message, answer: type[_Out], timeout_s: float | None = 120.0) -> _Out:
        """Any call by its full name, for example `/csi.v1.Node/NodeGetInfo`."""
        stub = self._channel.unary_unary(
            method, request_serializer=type(message).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            answered: _Out = await stub(message, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code().name, error.details() or "") from None
        return answered

    async def publish(self, message: csi_pb2.NodePublishVolumeRequest, timeout_s: float | None = 120.0) -> None:
        """NodePublishVolume."""
        await self.call("/csi.v1.Node/NodePublishVolume", message, csi_pb2.NodePublishVolumeResponse, timeout_s)

    async def unpublish(self, volume_id: str, target_path: Path, timeout_s: float | None = 120.0) -> None:
        """NodeUnpublishVolume."""
        message = csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume_id, target_path=str(target_path))
        await self.call("/csi.v1.Node/NodeUnpublishVolume", message, csi_pb2.NodeUnpublishVolumeResponse, timeout_s)

    async def register(self) -> pluginregistration_pb2.PluginInfo:
        """What kubelet does when it finds a registration socket: ask, then say that the plugin was taken."""
        service = "/pluginregistration.Registration"
        info = await self.call(
            f"{service}/GetInfo", pluginregistration_pb2.InfoRequest(), pluginregistration_pb2.PluginInfo
        )
        status = pluginregistration_pb2.RegistrationStatus(plugin_registered=True)
        answer = pluginregistration_pb2.RegistrationStatusResponse
        await self.call(f"{service}/NotifyRegistrationStatus", status, answer)
        return info


def target_path_of(kubelet_root: Path, pod_uid: str, volume: str) -> Path:
    """Where kubelet wants an inline volume; it makes the folder above, the driver makes this one."""
    return kubelet_root / "pods" / pod_uid / "volumes" / "kubernetes.io~csi" / volume / "mount"


def publish_message(
    volume_id: str,
    target_path: Path,
    pod: PodRef,
    interceptor: str | None,
    *,
    fs_group: int | None = None,
    tokens_json: str | None = None,
) -> csi_pb2.NodePublishVolumeRequest:
    """The message that kubelet 1.36 sends for a read-only inline volume with pod information. Without an interceptor it
    is the volume of the shim."""
    mount = csi_pb2.VolumeCapability.MountVolume(volume_mount_group="" if fs_group is None else str(fs_group))
    mode = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
    context = {
        **({ATTRIBUTE_SHIM: ATTRIBUTE_SHIM_YES} if interceptor is None else {ATTRIBUTE_INTERCEPTOR: interceptor}),
        keys.POD_NAMESPACE: pod.namespace,
        keys.POD_NAME: pod.name,
        keys.POD_UID: pod.uid,
        keys.SERVICE_ACCOUNT: pod.service_account,
        keys.EPHEMERAL: "true",
    }
    return csi_pb2.NodePublishVolumeRequest(
        volume_id=volume_id,
        target_path=str(target_path),
        volume_capability=csi_pb2.VolumeCapability(mount=mount, access_mode=mode),
        readonly=True,
        volume_context=context if tokens_json is None else {**context, TOKENS_KEY: tokens_json},
    )
