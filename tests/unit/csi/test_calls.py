"""Calls over real sockets: the codes, one operation at a time for each volume, and callers who go away."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from agent.csi.client import CallError, publish_message
from agent.csi.rpc import MAX_DETAILS
from agent.csi.wire import csi_pb2
from agent.model import PublishRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.names import DRIVER_NAME
from tests.unit.csi.door import CANARY, POD, VOLUME_ID, Door, make_kubelet_folder, message, open_door

PUBLISH = "/csi.v1.Node/NodePublishVolume"


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    make_kubelet_folder(tmp_path)
    async with open_door(tmp_path, allowed_uid=os.geteuid()) as opened:
        yield opened


async def test_publish_makes_the_folder_and_unpublish_removes_it(door: Door) -> None:
    async with door.client() as client:
        await client.publish(message(door.root))
        assert door.target.is_dir()
        taken = door.publisher.volumes[VOLUME_ID]
        assert isinstance(taken, PublishRequest)
        assert (taken.pod, taken.target_path, taken.tokens) == (POD, door.target, {"vault": CANARY})
        await client.unpublish(VOLUME_ID, door.target)
    assert not door.target.exists()
    assert door.publisher.volumes == {}
    assert door.observed == [("publish", "OK"), ("unpublish", "OK")]


async def test_every_call_can_come_twice_and_unpublish_before_any_publish(door: Door) -> None:
    async with door.client() as client:
        await client.unpublish(VOLUME_ID, door.target)
        await client.publish(message(door.root))
        await client.publish(message(door.root, tokens=None))
        await client.unpublish(VOLUME_ID, door.target)
        await client.unpublish(VOLUME_ID, door.target)
    assert door.publisher.calls == {"publish": 2, "unpublish": 3}


@pytest.mark.parametrize("code", list(Code))
async def test_a_refusal_arrives_with_its_code_and_text(door: Door, code: Code) -> None:
    door.publisher.error = Refused(code, "spec.secrets[0]", "no such secret", "create it")
    async with door.client() as client:
        with pytest.raises(CallError) as caught:
            await client.publish(message(door.root))
    assert caught.value.code == code.value
    assert caught.value.details == "spec.secrets[0]: no such secret; create it"
    assert not door.target.exists(), "a publish that failed leaves no folder"
    assert door.observed == [("publish", code.value)]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError(CANARY), "INTERNAL", "ValueError"),
        (OSError(errno.EIO, CANARY, CANARY), "INTERNAL", "OSError (EIO)"),
        (OSError(errno.EMFILE, CANARY, CANARY), "RESOURCE_EXHAUSTED", "node: the agent has met a limit (EMFILE)"),
    ],
)
async def test_any_other_error_says_nothing_but_its_class(
    door: Door,
    error: Exception,
    code: str,
    told: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    door.publisher.error = error
    async with door.client() as client:
        with pytest.raises(CallError) as caught:
            await client.publish(message(door.root))
    assert caught.value.code == code
    assert told in caught.value.details
    everything = str(caught.value) + caplog.text + "".join(capfd.readouterr()) + "".join(door.log.lines)
    assert CANARY not in everything


async def test_a_target_folder_that_was_there_before_a_failed_publish_stays(door: Door) -> None:
    async with door.client() as client:
        await client.publish(message(door.root))
        door.publisher.error = Refused(Code.UNAVAILABLE, "source", "down")
        with pytest.raises(CallError):
            await client.publish(message(door.root))
    assert door.target.is_dir()


async def test_a_wrong_message_never_reaches_the_publisher(door: Door) -> None:
    wrong = message(door.root)
    wrong.target_path = "/etc"
    async with door.client() as client:
        with pytest.raises(CallError, match="INVALID_ARGUMENT: target_path: '/etc' is not"):
            await client.publish(wrong)
    assert door.publisher.calls == {}
    assert door.observed == [("publish", "INVALID_ARGUMENT")]


async def test_a_symlink_in_the_target_path_is_refused_and_nothing_is_called(door: Door) -> None:
    door.target.symlink_to("/etc")
    async with door.client() as client:
        with pytest.raises(CallError, match="INVALID_ARGUMENT: target_path: the component 'mount' is a symlink"):
            await client.publish(message(door.root))
        with pytest.raises(CallError, match="INVALID_ARGUMENT: target_path"):
            await client.unpublish(VOLUME_ID, door.target)
    assert door.publisher.calls == {}


async def test_bytes_that_are_no_message_are_an_invalid_argument(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    async with door.client() as client:
        stub: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = client._channel.unary_unary(PUBLISH)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(b"\xff" + CANARY.encode())
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert CANARY not in str(caught.value) + caplog.text


async def test_a_long_refusal_is_cut_to_what_a_header_takes(door: Door) -> None:
    door.publisher.error = Refused(Code.NOT_FOUND, "field", "x" * 100_000)
    async with door.client() as client:
        with pytest.raises(CallError) as caught:
            await client.publish(message(door.root))
    assert caught.value.code == "NOT_FOUND"
    assert len(caught.value.details) == MAX_DETAILS


async def test_a_second_operation_of_a_volume_in_flight_is_aborted_and_others_go_on(door: Door) -> None:
    door.publisher.gate.clear()
    other_target = make_kubelet_folder(door.root, "other")
    async with door.client() as client:
        first = asyncio.create_task(client.publish(message(door.root)))
        await door.publisher.entered.wait()
        for call in (client.publish(message(door.root)), client.unpublish(VOLUME_ID, door.target)):
            with pytest.raises(CallError, match="ABORTED: volume_id: another operation"):
                await call
        door.publisher.entered.clear()
        second = asyncio.create_task(client.publish(publish_message("csi-other", other_target, POD, "shop-db")))
        await door.publisher.entered.wait()
        door.publisher.gate.set()
        await asyncio.gather(first, second)
        await client.unpublish(VOLUME_ID, door.target)
    assert door.publisher.calls == {"publish": 2, "unpublish": 1}


@pytest.mark.parametrize("how", ["deadline", "cancel", "disconnect"])
async def test_a_caller_who_goes_away_leaves_no_half_state(door: Door, how: str) -> None:
    door.publisher.gate.clear()
    async with door.client() as client:
        call = asyncio.create_task(client.publish(message(door.root), timeout_s=0.2 if how == "deadline" else None))
        await door.publisher.entered.wait()
        if how == "cancel":
            call.cancel()
        elif how == "disconnect":
            await client.close()
        results = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(results[0], BaseException)
    async with door.client() as client:
        with pytest.raises(CallError, match="ABORTED"):
            await client.unpublish(VOLUME_ID, door.target)
        door.publisher.gate.set()
        await door.publisher.finished.wait()
        assert VOLUME_ID in door.publisher.volumes, "the operation ran to its end"
        await client.unpublish(VOLUME_ID, door.target)
    assert not door.target.exists()
    assert door.observed[-1] == ("unpublish", "OK")


async def test_a_publish_that_fails_after_its_caller_left_is_recorded_and_cleaned_up(door: Door) -> None:
    door.publisher.gate.clear()
    door.publisher.error = Refused(Code.NOT_FOUND, "key", "gone")
    async with door.client() as client:
        call = asyncio.create_task(client.publish(message(door.root)))
        await door.publisher.entered.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        door.publisher.gate.set()
        assert await door.server._node.drain(5) == 0
    assert door.observed == [("publish", "NOT_FOUND")]
    assert not door.target.exists()


async def test_stopping_waits_for_a_running_operation(door: Door) -> None:
    door.publisher.gate.clear()
    async with door.client() as client:
        call = asyncio.create_task(client.publish(message(door.root)))
        await door.publisher.entered.wait()
        stopping = asyncio.create_task(door.server.stop(10))
        while door.at.csi_socket.exists():  # noqa: ASYNC110 - until it has begun to stop
            await asyncio.sleep(0)
        door.publisher.gate.set()
        assert await stopping == 0
        await call
    assert VOLUME_ID in door.publisher.volumes


async def test_stopping_tells_how_many_operations_did_not_end(door: Door) -> None:
    door.publisher.gate.clear()
    async with door.client() as client:
        call = asyncio.create_task(client.publish(message(door.root)))
        await door.publisher.entered.wait()
        assert await door.server.stop(0) == 1
        await asyncio.gather(call, return_exceptions=True)


async def test_no_token_is_ever_logged(door: Door) -> None:
    async with door.client() as client:
        await client.publish(message(door.root))
        wrong = message(door.root)
        wrong.readonly = False
        with pytest.raises(CallError):
            await client.publish(wrong)
    assert len(door.log.lines) == 2
    assert CANARY not in "".join(door.log.lines)


async def test_the_plugin_says_who_it_is_and_what_it_can(door: Door) -> None:
    async with door.client() as client:
        info = await client.call(
            "/csi.v1.Identity/GetPluginInfo", csi_pb2.GetPluginInfoRequest(), csi_pb2.GetPluginInfoResponse
        )
        assert (info.name, info.vendor_version) == (DRIVER_NAME, "1.2.3")
        node = await client.call("/csi.v1.Node/NodeGetInfo", csi_pb2.NodeGetInfoRequest(), csi_pb2.NodeGetInfoResponse)
        assert (node.node_id, node.max_volumes_per_node) == ("node-1", 1000)
        can = await client.call(
            "/csi.v1.Node/NodeGetCapabilities",
            csi_pb2.NodeGetCapabilitiesRequest(),
            csi_pb2.NodeGetCapabilitiesResponse,
        )
        kinds = csi_pb2.NodeServiceCapability.RPC
        assert [capability.rpc.type for capability in can.capabilities] == [kinds.VOLUME_MOUNT_GROUP]
        plugin = await client.call(
            "/csi.v1.Identity/GetPluginCapabilities",
            csi_pb2.GetPluginCapabilitiesRequest(),
            csi_pb2.GetPluginCapabilitiesResponse,
        )
        assert not plugin.capabilities


async def test_a_probe_tells_starting_from_ready_from_broken(door: Door) -> None:
    async with door.client() as client:

        async def probe() -> bool:
            answer = await client.call("/csi.v1.Identity/Probe", csi_pb2.ProbeRequest(), csi_pb2.ProbeResponse)
            return answer.ready.value

        assert await probe() is True
        door.publisher.is_ready = False
        assert await probe() is False
        door.publisher.error = Refused(Code.FAILED_PRECONDITION, "engine", "no BPF", "mount bpffs")
        with pytest.raises(CallError, match="FAILED_PRECONDITION: engine: no BPF"):
            await probe()


@pytest.mark.parametrize("method", ["NodeStageVolume", "NodeUnstageVolume", "NodeGetVolumeStats", "NodeExpandVolume"])
async def test_calls_that_were_not_announced_are_unimplemented(door: Door, method: str) -> None:
    async with door.client() as client:
        with pytest.raises(CallError, match="UNIMPLEMENTED"):
            await client.call(f"/csi.v1.Node/{method}", csi_pb2.ProbeRequest(), csi_pb2.ProbeResponse)
