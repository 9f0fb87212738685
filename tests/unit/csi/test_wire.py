"""The contract's names and numbers are the specification's: a table written down once more, by hand."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from agent.csi.wire import csi_pb2, pluginregistration_pb2

MESSAGES = {
    "csi.v1.GetPluginInfoResponse": {"name": 1, "vendor_version": 2, "manifest": 3},
    "csi.v1.GetPluginCapabilitiesResponse": {"capabilities": 1},
    "csi.v1.ProbeResponse": {"ready": 1},
    "csi.v1.VolumeCapability": {"block": 1, "mount": 2, "access_mode": 3},
    "csi.v1.VolumeCapability.MountVolume": {"fs_type": 1, "mount_flags": 2, "volume_mount_group": 3},
    "csi.v1.VolumeCapability.AccessMode": {"mode": 1},
    "csi.v1.NodePublishVolumeRequest": {
        "volume_id": 1,
        "publish_context": 2,
        "staging_target_path": 3,
        "target_path": 4,
        "volume_capability": 5,
        "readonly": 6,
        "secrets": 7,
        "volume_context": 8,
    },
    "csi.v1.NodeUnpublishVolumeRequest": {"volume_id": 1, "target_path": 2},
    "csi.v1.NodeGetCapabilitiesResponse": {"capabilities": 1},
    "csi.v1.NodeServiceCapability": {"rpc": 1},
    "csi.v1.NodeServiceCapability.RPC": {"type": 1},
    "csi.v1.NodeGetInfoResponse": {"node_id": 1, "max_volumes_per_node": 2},
    "pluginregistration.PluginInfo": {"type": 1, "name": 2, "endpoint": 3, "supported_versions": 4},
    "pluginregistration.RegistrationStatus": {"plugin_registered": 1, "error": 2},
}
ENUMS = {
    csi_pb2.VolumeCapability.AccessMode.Mode: {
        "UNKNOWN": 0,
        "SINGLE_NODE_WRITER": 1,
        "SINGLE_NODE_READER_ONLY": 2,
        "MULTI_NODE_READER_ONLY": 3,
        "MULTI_NODE_SINGLE_WRITER": 4,
        "MULTI_NODE_MULTI_WRITER": 5,
        "SINGLE_NODE_SINGLE_WRITER": 6,
        "SINGLE_NODE_MULTI_WRITER": 7,
    },
    csi_pb2.NodeServiceCapability.RPC.Type: {
        "UNKNOWN": 0,
        "STAGE_UNSTAGE_VOLUME": 1,
        "GET_VOLUME_STATS": 2,
        "EXPAND_VOLUME": 3,
        "SINGLE_NODE_MULTI_WRITER": 5,
        "VOLUME_MOUNT_GROUP": 6,
    },
}


def all_messages(found: Descriptor) -> list[Descriptor]:
    nested = [inner for inner in found.nested_types if not inner.GetOptions().map_entry]
    return [found, *(deep for inner in nested for deep in all_messages(inner))]


def test_every_field_has_the_specifications_name_and_number() -> None:
    files = (csi_pb2.DESCRIPTOR, pluginregistration_pb2.DESCRIPTOR)
    tops = [message for file in files for message in file.message_types_by_name.values()]
    found = {
        message.full_name: {field.name: field.number for field in message.fields}
        for top in tops
        for message in all_messages(top)
    }
    assert {name: fields for name, fields in found.items() if fields} == MESSAGES


def test_every_enum_value_has_the_specifications_number() -> None:
    for enum, values in ENUMS.items():
        assert dict(enum.items()) == values


@pytest.mark.parametrize(
    ("service", "methods"),
    [
        (csi_pb2.DESCRIPTOR.services_by_name["Identity"], ["GetPluginInfo", "GetPluginCapabilities", "Probe"]),
        (
            csi_pb2.DESCRIPTOR.services_by_name["Node"],
            ["NodePublishVolume", "NodeUnpublishVolume", "NodeGetCapabilities", "NodeGetInfo"],
        ),
        (
            pluginregistration_pb2.DESCRIPTOR.services_by_name["Registration"],
            ["GetInfo", "NotifyRegistrationStatus"],
        ),
    ],
)
def test_every_service_has_the_calls_that_kubelet_makes(service: ServiceDescriptor, methods: list[str]) -> None:
    assert [method.name for method in service.methods] == methods


def test_a_request_of_a_newer_specification_is_still_read() -> None:
    raw = csi_pb2.NodeUnpublishVolumeRequest(volume_id="a", target_path="/b").SerializeToString()
    newer = raw + bytes([99 << 3 & 0x7F | 0x80 | 2, 99 >> 4, 3]) + b"new"
    assert csi_pb2.NodeUnpublishVolumeRequest.FromString(newer).volume_id == "a"
