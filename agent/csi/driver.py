"""The Node service: one operation at a time for each volume, and none that is left half done.

Kubelet may give up on a call at any moment (its deadline, its restart). The operation then runs to its end all the
same, and until it has ended the volume answers ABORTED, which kubelet takes as "try again later".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from agent.csi.publisher import CallObserver, Log, Publisher, Targets, no_observer
from agent.csi.request import UnpublishRequest, publish_request, unpublish_request
from agent.csi.rpc import error_type, failure_of
from agent.csi.wire import csi_pb2
from agent.model import PublishRequest, ShimRequest
from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event

MAX_NODE_ID = 256
"""Bytes that the specification gives a node's name."""


class NodeService:
    """CSI's Node calls, in front of a Publisher. Every method raises Refused for what cannot be granted."""

    def __init__(
        self,
        publisher: Publisher,
        targets: Targets,
        log: Log,
        *,
        node_id: str,
        kubelet_root: Path,
        max_volumes: int = 0,
        observe: CallObserver = no_observer,
    ) -> None:
        """`max_volumes` 0 is no limit; `kubelet_root` is absolute. Raises ValueError for a setting that is not."""
        if not node_id or len(node_id.encode()) > MAX_NODE_ID:
            raise ValueError(f"the node's name must have 1 to {MAX_NODE_ID} bytes")
        if max_volumes < 0:
            raise ValueError("max_volumes must not be negative")
        if not kubelet_root.is_absolute() or ".." in kubelet_root.parts:
            raise ValueError("the kubelet root must be an absolute path without '..'")
        self._publisher = publisher
        self._targets = targets
        self._log = log
        self._node_id = node_id
        self._root = kubelet_root
        self._max_volumes = max_volumes
        self._observe = observe
        self._running: dict[str, asyncio.Task[Exception | None]] = {}

    async def publish(self, message: csi_pb2.NodePublishVolumeRequest) -> csi_pb2.NodePublishVolumeResponse:
        """NodePublishVolume; ABORTED while another operation of the volume runs."""
        with self._recorded_at_the_door("publish"):
            wanted = publish_request(message, self._root)
            facts = {
                "volume_id": wanted.volume_id,
                "namespace": wanted.pod.namespace,
                "pod": wanted.pod.name,
                "pod_uid": wanted.pod.uid,
            }
            if isinstance(wanted, PublishRequest):
                facts["interceptor"] = wanted.interceptor
            task = self._start("publish", wanted.volume_id, facts, lambda: self._publish(wanted))
        await _outcome(task)
        return csi_pb2.NodePublishVolumeResponse()

    async def unpublish(self, message: csi_pb2.NodeUnpublishVolumeRequest) -> csi_pb2.NodeUnpublishVolumeResponse:
        """NodeUnpublishVolume; ABORTED while another operation of the volume runs."""
        with self._recorded_at_the_door("unpublish"):
            wanted = unpublish_request(message, self._root)
            facts = {"volume_id": wanted.volume_id}
            task = self._start("unpublish", wanted.volume_id, facts, lambda: self._unpublish(wanted))
        await _outcome(task)
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def capabilities(self, message: csi_pb2.NodeGetCapabilitiesRequest) -> csi_pb2.NodeGetCapabilitiesResponse:
        """NodeGetCapabilities: kubelet hands over fsGroup instead of changing owners itself, and stages nothing."""
        rpc = csi_pb2.NodeServiceCapability.RPC(type=csi_pb2.NodeServiceCapability.RPC.VOLUME_MOUNT_GROUP)
        return csi_pb2.NodeGetCapabilitiesResponse(capabilities=[csi_pb2.NodeServiceCapability(rpc=rpc)])

    async def info(self, message: csi_pb2.NodeGetInfoRequest) -> csi_pb2.NodeGetInfoResponse:
        """NodeGetInfo: this node's name, and how many volumes it takes (0: no limit)."""
        return csi_pb2.NodeGetInfoResponse(node_id=self._node_id, max_volumes_per_node=self._max_volumes)

    async def drain(self, timeout_s: float) -> int:
        """Wait for running operations; how many are still running after `timeout_s` seconds."""
        if not self._running:
            return 0
        _, running = await asyncio.wait(list(self._running.values()), timeout=timeout_s)
        return len(running)

    async def _publish(self, wanted: PublishRequest | ShimRequest) -> None:
        made = self._targets.ensure(wanted.target_path)
        try:
            await self._publisher.publish(wanted)
        except BaseException:
            if made:
                self._take_back(wanted)
            raise

    def _take_back(self, wanted: PublishRequest | ShimRequest) -> None:
        """Leave nothing of a publish that failed. What cannot be removed now is removed by kubelet's unpublish."""
        try:
            self._targets.remove(wanted.target_path)
        except (Refused, OSError) as error:
            self._log.warning(Event.TARGET_LEFT, volume_id=wanted.volume_id, error_type=error_type(error))

    async def _unpublish(self, wanted: UnpublishRequest) -> None:
        self._targets.check(wanted.target_path)
        await self._publisher.unpublish(wanted.volume_id, wanted.target_path)
        self._targets.remove(wanted.target_path)

    def _start(
        self, call: str, volume_id: str, facts: Mapping[str, str], work: Callable[[], Awaitable[None]]
    ) -> asyncio.Task[Exception | None]:
        """Begin an operation that no caller can cancel. Raises Refused(ABORTED) where the volume has one running."""
        if volume_id in self._running:
            why = "another operation of this volume is still running"
            raise Refused(Code.ABORTED, "volume_id", why, "kubelet tries again by itself")
        task = asyncio.create_task(self._run(call, volume_id, facts, work))
        self._running[volume_id] = task
        return task

    async def _run(
        self, call: str, volume_id: str, facts: Mapping[str, str], work: Callable[[], Awaitable[None]]
    ) -> Exception | None:
        """The error is returned, not raised: where the caller has gone nobody would fetch it."""
        started = time.monotonic()
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - becomes a status at the edge, whatever it is
            self._record(call, started, facts, error)
            return error
        finally:
            del self._running[volume_id]
        self._record(call, started, facts, None)
        return None

    @contextmanager
    def _recorded_at_the_door(self, call: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except Refused as error:
            self._record(call, started, {}, error)
            raise

    def _record(self, call: str, started: float, facts: Mapping[str, str], error: Exception | None) -> None:
        seconds = time.monotonic() - started
        fields: dict[str, str | int | float] = {"call": call, **facts, "duration_ms": round(seconds * 1000, 3)}
        if error is None:
            self._log.info(Event.CALL_SERVED, **fields)
        elif isinstance(error, Refused):
            said = {"code": error.code.value, "field": error.field, "why": error.why, "fix": error.fix}
            self._log.warning(Event.CALL_REFUSED, **fields, **said)
        else:
            self._log.error(Event.CALL_FAILED, **fields, error_type=error_type(error))
        self._observe(call, "OK" if error is None else failure_of(error).code.value, seconds)


async def _outcome(task: asyncio.Task[Exception | None]) -> None:
    """Wait for the operation; a caller who goes away leaves it running."""
    error = await asyncio.shield(task)
    if error is not None:
        raise error
