"""A pod as admission reads it: only the fields that decide; all others are skipped by the decoder. No I/O here.

Everything may be missing or null, because a mutating webhook sees what nobody has validated yet. What the scheduler
judges stays raw JSON: it is the key under which `webhook.policy.nodes` remembers where such pods can land.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw

from kernelsecret.names import ATTRIBUTE_INTERCEPTOR, ATTRIBUTE_SHIM, CONTAINER_VAULT_AGENT, DRIVER_NAME

ANNOTATION_MIRROR = "kubernetes.io/config.mirror"
"""Set by kubelet on the API server's picture of a static pod."""


class _Part(msgspec.Struct, rename="camel", frozen=True, kw_only=True, gc=False):
    """Part of an object of Kubernetes."""


class Mount(_Part, frozen=True, kw_only=True, gc=False):
    """One of a container's `volumeMounts`."""

    name: str | None = None
    mount_path: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


class Container(_Part, frozen=True, kw_only=True, gc=False):
    """A container of any kind; a native sidecar is an init container. Only a pod that needs it has its environment
    decoded (`webhook.policy.environment`)."""

    name: str | None = None
    volume_mounts: tuple[Mount, ...] | None = None
    env: Raw = Raw()
    env_from: Raw = Raw()
    image: Raw = Raw()
    command: Raw = Raw()
    args: Raw = Raw()
    security_context: Raw = Raw()


class Csi(_Part, frozen=True, kw_only=True, gc=False):
    """An inline CSI volume."""

    driver: str | None = None
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: dict[str, str] | None = None
    node_publish_secret_ref: dict[str, str] | None = None

    @property
    def interceptor(self) -> str:
        """The interceptor that the volume names, empty where it names none."""
        return (self.volume_attributes or {}).get(ATTRIBUTE_INTERCEPTOR, "")

    @property
    def is_shim(self) -> bool:
        """Whether it asks for the shim in place of secrets."""
        return ATTRIBUTE_SHIM in (self.volume_attributes or ())


class EmptyDir(_Part, frozen=True, kw_only=True, gc=False):
    """A volume that is empty when the pod starts."""

    medium: str | None = None
    size_limit: Raw = Raw()


class HostPath(_Part, frozen=True, kw_only=True, gc=False):
    """A volume that shows a path of the node."""

    path: str | None = None


class Volume(_Part, frozen=True, kw_only=True, gc=False):
    """One of the pod's `volumes`; of the kinds only those that are judged."""

    name: str | None = None
    csi: Csi | None = None
    host_path: HostPath | None = None
    empty_dir: EmptyDir | None = None
    projected: Raw = Raw()

    @property
    def is_ours(self) -> bool:
        """Whether our driver serves it: secrets, or the shim."""
        return self.csi is not None and self.csi.driver == DRIVER_NAME


class Os(_Part, frozen=True, kw_only=True, gc=False):
    """`spec.os`."""

    name: str | None = None


class Meta(_Part, frozen=True, kw_only=True, gc=False):
    """The part of a pod's metadata that decides."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class PodSpec(_Part, frozen=True, kw_only=True, gc=False):
    """The part of a pod's spec that decides."""

    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    ephemeral_containers: tuple[Container, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    node_name: str | None = None
    host_users: bool | None = None
    os: Os | None = None
    service_account_name: str | None = None
    share_process_namespace: bool | None = None
    security_context: Raw = Raw()
    node_selector: Raw = Raw()
    tolerations: Raw = Raw()
    affinity: Raw = Raw()

    @property
    def has_vault_agent(self) -> bool:
        """Whether an init container has the name of the one that admission adds in mode `vault-agent`."""
        return any(one.name == CONTAINER_VAULT_AGENT for one in self.init_containers or ())


class Pod(_Part, frozen=True, kw_only=True, gc=False):
    """A pod, as it stands in a review or as the API server stores it."""

    api_version: str | None = None
    kind: str | None = None
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, also where there are none."""
        return self.metadata.labels or {}

    @property
    def annotations(self) -> dict[str, str]:
        """Its annotations, also where there are none."""
        return self.metadata.annotations or {}

    @property
    def display_name(self) -> str:
        """What people know it by, also before it has a name."""
        meta = self.metadata
        return meta.name or f"{meta.generate_name or ''}*"

    @property
    def is_mirror(self) -> bool:
        """Whether it is only the picture of a static pod."""
        return ANNOTATION_MIRROR in self.annotations


class Place(NamedTuple):
    """A container and where it stands: `path` is a JSON Pointer, `field` the same as people write it."""

    container: Container
    name: str
    path: str
    field: str


def places(spec: PodSpec) -> Iterator[Place]:
    """Init containers, native sidecars among them, then the others; not ephemeral ones, which come later."""
    for index, container in enumerate(spec.init_containers or ()):
        at = f"spec.initContainers[{index}]"
        yield Place(container, container.name or "", f"/spec/initContainers/{index}", at)
    for index, container in enumerate(spec.containers or ()):
        yield Place(container, container.name or "", f"/spec/containers/{index}", f"spec.containers[{index}]")


_POD = msgspec.json.Decoder(Pod)


def read_pod(body: bytes) -> Pod:
    """A pod from its JSON. Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""
    return _POD.decode(body)
