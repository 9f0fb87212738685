"""The agent's two sockets towards kubelet: the CSI endpoint and the registration socket."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

import grpc
import grpc.aio

from agent.csi.driver import NodeService
from agent.csi.identity import IdentityService, RegistrationService
from agent.csi.peers import Gate
from agent.csi.publisher import Log
from agent.csi.rpc import unary
from agent.csi.wire import csi_pb2 as csi
from agent.csi.wire import pluginregistration_pb2 as registration_pb
from agent.sockets import Listener, listen, lock, private_folder, shared_folder
from kernelsecret.errors import Code, Refused

MAX_MESSAGE = 1024 * 1024
"""Bytes of one request: a publish with its tokens has a few kilobytes."""

LAST_WORDS_S = 1.0
"""How long connections may take to deliver what gRPC wrote before it stopped."""

_INNER = ".inner-"

Services: TypeAlias = "Mapping[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]"


class Endpoint:
    """One socket file, the gate behind it, and a gRPC server that can be reached through the gate only."""

    def __init__(self, path: Path, services: Services, *, private: Path, allowed_uid: int, log: Log) -> None:
        """`services` maps a service's full name to its handlers by method; `private` is a folder of mode 0700."""
        self._path = path
        self._private = private
        self._services = services
        self._allowed_uid = allowed_uid
        self._log = log
        self._server: grpc.aio.Server | None = None
        self._listener: Listener | None = None
        self._gate: Gate | None = None
        self._inner_fd = -1

    async def start(self) -> None:
        """Serve. Raises Refused; nothing is left open then. The socket's folder exists and is checked already."""
        try:
            self._listener = listen(self._path)
            self._server = self._grpc_server()
            self._inner_fd = _bind_nameless(self._server, self._private)
            await self._server.start()
        except BaseException:
            await self.stop(0)
            raise
        inner = f"/proc/self/fd/{self._inner_fd}"
        self._gate = Gate(self._listener.sock, inner, self._allowed_uid, self._log)
        self._gate.open()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let running ones end for up to `grace_s` seconds, then cut. Idempotent."""
        if self._gate is not None:
            self._gate.close()
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            await self._server.stop(grace_s)
        if self._gate is not None:
            await self._gate.drained(LAST_WORDS_S)
        if self._inner_fd >= 0:
            os.close(self._inner_fd)
            self._inner_fd = -1

    def _grpc_server(self) -> grpc.aio.Server:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
            ("grpc.enable_http_proxy", 0),
        ]
        server = grpc.aio.server(options=options)
        handlers = [grpc.method_handlers_generic_handler(name, methods) for name, methods in self._services.items()]
        server.add_generic_rpc_handlers(handlers)
        return server


@dataclass(frozen=True, slots=True)
class CsiSettings:
    """Where the sockets are and who may use them."""

    csi_socket: Path
    """Its folder is the agent's own (mode 0700); kubelet must see it under the same path."""

    registration_socket: Path
    """In kubelet's `plugins_registry`."""

    allowed_uid: int = 0


class CsiServer:
    """Both endpoints, one lifetime. The registration socket comes last and goes first: kubelet acts on it at once."""

    def __init__(
        self, node: NodeService, identity: IdentityService, registration: RegistrationService, log: Log, at: CsiSettings
    ) -> None:
        """Nothing is opened before `start`."""
        self._node = node
        self._at = at
        self._lock_fd = -1
        folder, uid = at.csi_socket.parent, at.allowed_uid
        self._csi = Endpoint(at.csi_socket, _csi_services(node, identity), private=folder, allowed_uid=uid, log=log)
        self._registration = Endpoint(
            at.registration_socket, _registration_services(registration), private=folder, allowed_uid=uid, log=log
        )

    async def start(self) -> None:
        """Open both sockets. Raises Refused with what is in the way; nothing is left open then."""
        private_folder(self._at.csi_socket.parent)
        shared_folder(self._at.registration_socket.parent)
        self._lock_fd = lock(self._at.csi_socket.with_name(".lock"))
        try:
            _clear_inner(self._at.csi_socket.parent)
            await self._csi.start()
            await self._registration.start()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace_s: float) -> int:
        """Close both sockets, and wait up to `grace_s` seconds for running operations; how many still run then."""
        until = time.monotonic() + grace_s
        await self._registration.stop(0)
        await self._csi.stop(grace_s)
        running = await self._node.drain(max(0.0, until - time.monotonic()))
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        return running


def _csi_services(node: NodeService, identity: IdentityService) -> Services:
    return {
        "csi.v1.Identity": {
            "GetPluginInfo": unary(csi.GetPluginInfoRequest, identity.info),
            "GetPluginCapabilities": unary(csi.GetPluginCapabilitiesRequest, identity.capabilities),
            "Probe": unary(csi.ProbeRequest, identity.probe),
        },
        "csi.v1.Node": {
            "NodePublishVolume": unary(csi.NodePublishVolumeRequest, node.publish),
            "NodeUnpublishVolume": unary(csi.NodeUnpublishVolumeRequest, node.unpublish),
            "NodeGetCapabilities": unary(csi.NodeGetCapabilitiesRequest, node.capabilities),
            "NodeGetInfo": unary(csi.NodeGetInfoRequest, node.info),
        },
    }


def _registration_services(registration: RegistrationService) -> Services:
    return {
        "pluginregistration.Registration": {
            "GetInfo": unary(registration_pb.InfoRequest, registration.info),
            "NotifyRegistrationStatus": unary(registration_pb.RegistrationStatus, registration.status),
        }
    }


def _bind_nameless(server: grpc.aio.Server, folder: Path) -> int:
    """Let gRPC listen on a socket whose name is removed again; the returned O_PATH descriptor is the only way there."""
    path = folder / f"{_INNER}{token_hex(8)}"
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By way of a descriptor, so that a long path of the folder does not count against what gRPC takes.
        server.add_insecure_port(f"unix:/proc/self/fd/{folder_fd}/{path.name}")
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except RuntimeError as error:
        raise Refused(Code.FAILED_PRECONDITION, str(path), "gRPC cannot listen there") from error
    finally:
        path.unlink(missing_ok=True)
        os.close(folder_fd)


def _clear_inner(folder: Path) -> None:
    """Remove names that an agent left which died in the middle of `_bind_nameless`. The lock is held."""
    for path in folder.glob(f"{_INNER}*"):
        path.unlink(missing_ok=True)
