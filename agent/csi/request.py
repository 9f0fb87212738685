"""From kubelet's messages to what the agent works with. No I/O here; everything is checked before anything is done.

Every refusal is INVALID_ARGUMENT and names the field. A value is repeated in a refusal only where it cannot be a
credential, and then shortened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.csi.tokens import TOKENS_KEY, tokens_of
from agent.csi.wire import csi_pb2
from agent.model import PodRef, PublishRequest, ShimRequest
from kernelsecret.errors import Code, Refused
from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM, ATTRIBUTE_SHIM_YES

POD_NAMESPACE = "csi.storage.k8s.io/pod.namespace"
POD_NAME = "csi.storage.k8s.io/pod.name"
POD_UID = "csi.storage.k8s.io/pod.uid"
SERVICE_ACCOUNT = "csi.storage.k8s.io/serviceAccount.name"
EPHEMERAL = "csi.storage.k8s.io/ephemeral"
KUBELET_PREFIX = "csi.storage.k8s.io/"
"""Kubelet overwrites what a pod's author writes under its keys; one that this agent does not know is left alone."""

MAX_GROUP = 2**31 - 1
"""The largest group that the API server accepts as fsGroup."""

_VOLUME_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?")
_POD_UID = re.compile(r"[0-9a-z](?:[0-9a-z-]{0,62}[0-9a-z])?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_GROUP = re.compile(r"[0-9]{1,10}")

_ATTRIBUTES = (ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM)

_Mode = csi_pb2.VolumeCapability.AccessMode
_ONE_NODE = frozenset(
    {
        _Mode.SINGLE_NODE_WRITER,  # what kubelet sends for every inline volume
        _Mode.SINGLE_NODE_READER_ONLY,
        _Mode.SINGLE_NODE_SINGLE_WRITER,
        _Mode.SINGLE_NODE_MULTI_WRITER,
    }
)


@dataclass(frozen=True, slots=True)
class UnpublishRequest:
    """A validated NodeUnpublishVolume."""

    volume_id: str
    target_path: Path


def publish_request(message: csi_pb2.NodePublishVolumeRequest, kubelet_root: Path) -> PublishRequest | ShimRequest:
    """Validate a NodePublishVolume; `kubelet_root` is absolute and normalized. Raises Refused(INVALID_ARGUMENT)."""
    volume_id = _volume_id(message.volume_id)
    context = dict(message.volume_context)
    pod = _pod(context)
    target_path = _target_path(message.target_path, kubelet_root, pod.uid)
    _refuse_unused(message)
    fs_group = _capability(message)
    if not message.readonly:
        raise _refused("readonly", "the volume is read-only", "set csi.readOnly: true in the pod's volume")
    if _asks_for_shim(context):
        return ShimRequest(volume_id, target_path, pod)  # tokens and group are for secrets
    return PublishRequest(
        volume_id=volume_id,
        target_path=target_path,
        pod=pod,
        interceptor=_interceptor(context),
        fs_group=fs_group,
        tokens=tokens_of(message.secrets, context),
    )


def unpublish_request(message: csi_pb2.NodeUnpublishVolumeRequest, kubelet_root: Path) -> UnpublishRequest:
    """Validate a NodeUnpublishVolume, which names no pod: the one of its path is taken. Raises Refused."""
    return UnpublishRequest(_volume_id(message.volume_id), _target_path(message.target_path, kubelet_root, None))


def _volume_id(text: str) -> str:
    if not text:
        raise _refused("volume_id", "missing")
    if not _VOLUME_ID.fullmatch(text) or ".." in text:
        raise _refused(
            "volume_id", f"{_short(text)} is not an identifier of at most 128 letters, digits, '-', '_', '.'"
        )
    return text


def _pod(context: Mapping[str, str]) -> PodRef:
    for key in (POD_NAMESPACE, POD_NAME, POD_UID, SERVICE_ACCOUNT, EPHEMERAL):
        if not context.get(key):
            raise _refused(_at(key), "missing", "set CSIDriver.spec.podInfoOnMount: true")
    if context[EPHEMERAL] != "true":
        raise _refused(_at(EPHEMERAL), "not 'true'", "use an inline csi volume; persistent volumes are not served")
    return PodRef(
        namespace=_matching(_LABEL, context, POD_NAMESPACE, "a namespace's name"),
        name=_matching(_SUBDOMAIN, context, POD_NAME, "a pod's name"),
        uid=_matching(_POD_UID, context, POD_UID, "a pod's UID"),
        service_account=_matching(_SUBDOMAIN, context, SERVICE_ACCOUNT, "a service account's name"),
    )


def _target_path(text: str, kubelet_root: Path, pod_uid: str | None) -> Path:
    """The path must be, letter by letter, the one that kubelet builds; so '..', '//' and the like cannot be in it."""
    shape = f"{kubelet_root}/pods/{pod_uid or '<pod uid>'}/volumes/kubernetes.io~csi/<volume name>/mount"
    if not text:
        raise _refused("target_path", "missing")
    base = f"{str(kubelet_root).rstrip('/')}/pods/"
    parts = text.removeprefix(base).split("/")
    if text.startswith(base) and len(parts) == 5:
        uid, volumes, plugin, name, mount = parts
        if (
            (volumes, plugin, mount) == ("volumes", "kubernetes.io~csi", "mount")
            and (_POD_UID.fullmatch(uid) if pod_uid is None else uid == pod_uid)
            and _LABEL.fullmatch(name)
        ):
            return Path(text)
    raise _refused("target_path", f"{_short(text)} is not {shape}", "look at the agent's kubelet root directory")


def _refuse_unused(message: csi_pb2.NodePublishVolumeRequest) -> None:
    if message.staging_target_path:
        raise _refused("staging_target_path", "this driver stages nothing")
    if message.publish_context:
        raise _refused("publish_context", "this driver has no controller", "set CSIDriver.spec.attachRequired: false")
    if any(key != TOKENS_KEY for key in message.secrets):
        raise _refused("secrets", "holds what this driver does not use", "remove csi.nodePublishSecretRef")


def _capability(message: csi_pb2.NodePublishVolumeRequest) -> int | None:
    """The pod's fsGroup, None without one."""
    capability = message.volume_capability
    kind = capability.WhichOneof("access_type")
    if kind == "block":
        raise _refused("volume_capability.block", "secrets are files", "use volumeMounts, not volumeDevices")
    if kind is None:
        raise _refused("volume_capability.mount", "missing")
    if capability.access_mode.mode not in _ONE_NODE:
        raise _refused("volume_capability.access_mode.mode", "not one of a volume on a single node")
    if capability.mount.fs_type:
        raise _refused("volume_capability.mount.fs_type", "cannot be chosen", "remove csi.fsType from the pod's volume")
    if capability.mount.mount_flags:
        raise _refused("volume_capability.mount.mount_flags", "cannot be chosen")
    return _group(capability.mount.volume_mount_group)


def _group(text: str) -> int | None:
    if not text:
        return None
    if not _GROUP.fullmatch(text) or int(text) > MAX_GROUP:
        why = f"{_short(text)} is not a group's number from 0 to {MAX_GROUP}"
        raise _refused("volume_capability.mount.volume_mount_group", why, "look at the pod's fsGroup")
    return int(text)


def _asks_for_shim(context: Mapping[str, str]) -> bool:
    for key in sorted(context):
        if key not in _ATTRIBUTES and not key.startswith(KUBELET_PREFIX):
            why = f"no attribute of this driver; it takes one of {' and '.join(_ATTRIBUTES)}"
            raise _refused(f"volume_context[{_short(key)}]", why, "remove it from csi.volumeAttributes")
    if ATTRIBUTE_SHIM not in context:
        return False
    if ATTRIBUTE_INTERCEPTOR in context:
        why = f"a volume of secrets, which has {ATTRIBUTE_INTERCEPTOR}, does not hold the shim"
        raise _refused(_at(ATTRIBUTE_SHIM), why, "give each a volume of its own")
    if context[ATTRIBUTE_SHIM] != ATTRIBUTE_SHIM_YES:
        raise _refused(_at(ATTRIBUTE_SHIM), f"{_short(context[ATTRIBUTE_SHIM])} is not '{ATTRIBUTE_SHIM_YES}'")
    return True


def _interceptor(context: Mapping[str, str]) -> str:
    if not context.get(ATTRIBUTE_INTERCEPTOR):
        raise _refused(_at(ATTRIBUTE_INTERCEPTOR), "missing", "name a SecretInterceptor in csi.volumeAttributes")
    return _matching(_SUBDOMAIN, context, ATTRIBUTE_INTERCEPTOR, "a SecretInterceptor's name")


def _matching(pattern: re.Pattern[str], context: Mapping[str, str], key: str, what: str) -> str:
    text = context[key]
    if not pattern.fullmatch(text):
        raise _refused(_at(key), f"{_short(text)} is not {what}")
    return text


def _at(key: str) -> str:
    return f"volume_context[{key}]"


def _short(text: str) -> str:
    """ASCII, quoted, control characters escaped, and no longer than a line."""
    return ascii(text if len(text) <= 160 else text[:157] + "...")


def _refused(field: str, why: str, fix: str = "") -> Refused:
    return Refused(Code.INVALID_ARGUMENT, field, why, fix)
