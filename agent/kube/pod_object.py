"""From a Pod object to a LivePod: only the fields that decide are looked at. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agent.kube.cluster import CsiVolume, LiveNamespace, LivePod
from kernelsecret.names import (
    ANNOTATION_FIRST_PID,
    ANNOTATION_POLL_INTERVAL,
    ATTRIBUTE_INTERCEPTOR,
    ATTRIBUTE_SHIM,
    ATTRIBUTE_SHIM_YES,
    DRIVER_NAME,
)
from kernelsecret.problems import Invalid, Problem, from_decoder, quoted
from kernelsecret.quantities import seconds
from kernelsecret.validation_limits import MAX_INTERVAL_S


class _Part(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Part of an object of Kubernetes; its other fields are passed over."""


class _Meta(_Part, frozen=True, kw_only=True):
    name: str
    namespace: str
    uid: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Mount(_Part, frozen=True, kw_only=True):
    name: str
    sub_path: str | None = None
    sub_path_expr: str | None = None


class _Security(_Part, frozen=True, kw_only=True):
    fs_group: int | None = None
    run_as_user: int | None = None


class _Container(_Part, frozen=True, kw_only=True):
    name: str = ""
    volume_mounts: tuple[_Mount, ...] | None = None
    security_context: _Security | None = None


class _Csi(_Part, frozen=True, kw_only=True):
    driver: str
    volume_attributes: dict[str, str] | None = None


class _Volume(_Part, frozen=True, kw_only=True):
    name: str
    csi: _Csi | None = None


class _Spec(_Part, frozen=True, kw_only=True):
    containers: tuple[_Container, ...]
    init_containers: tuple[_Container, ...] | None = None
    ephemeral_containers: tuple[_Container, ...] | None = None
    volumes: tuple[_Volume, ...] | None = None
    node_name: str | None = None
    service_account_name: str | None = None
    security_context: _Security | None = None


class _Pod(_Part, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: _Meta
    spec: _Spec


class _NamespaceMeta(_Part, frozen=True, kw_only=True):
    name: str
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Namespace(_Part, frozen=True, kw_only=True):
    api_version: str
    kind: str
    metadata: _NamespaceMeta


def live_pod(thing: object, namespace_labels: Mapping[str, str], *, trust_first_pid: bool) -> LivePod:
    """A LivePod from what a JSON or YAML reader made of a Pod. Raises Invalid with the field named.

    `trust_first_pid` only where nobody but root can have written the object: the annotation chooses whose namespaces
    are the pod's identity.
    """
    try:
        pod = msgspec.convert(thing, _Pod)
    except msgspec.ValidationError as error:
        raise Invalid([from_decoder(str(error))]) from None
    _require(pod.api_version, pod.kind, "Pod")
    meta, spec = pod.metadata, pod.spec
    annotations = meta.annotations or {}
    return LivePod(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        service_account=spec.service_account_name or "default",
        node=spec.node_name or "",
        labels=meta.labels or {},
        annotations=annotations,
        namespace_labels=namespace_labels,
        volumes=_volumes(spec),
        fs_group=spec.security_context.fs_group if spec.security_context else None,
        run_as_user=_user(spec),
        first_pid=_first_pid(annotations) if trust_first_pid else None,
        deleted=meta.deletion_timestamp is not None,
    )


def namespace_of(thing: object) -> LiveNamespace:
    """What decides of what a JSON or YAML reader made of a Namespace. Raises Invalid with the field named."""
    try:
        namespace = msgspec.convert(thing, _Namespace)
    except msgspec.ValidationError as error:
        raise Invalid([from_decoder(str(error))]) from None
    _require(namespace.api_version, namespace.kind, "Namespace")
    meta = namespace.metadata
    return LiveNamespace(meta.name, meta.labels or {}, _least_poll_s(meta.annotations or {}))


def _least_poll_s(annotations: Mapping[str, str]) -> float:
    """What cannot be read asks for nothing: a wish of the namespace's is no reason to keep its pods from starting."""
    try:
        return min(seconds(annotations.get(ANNOTATION_POLL_INTERVAL, "0s")), MAX_INTERVAL_S)
    except ValueError:
        return 0.0


def _require(api_version: str, kind: str, wanted: str) -> None:
    if api_version != "v1":
        raise Invalid([Problem("apiVersion", f"{quoted(api_version)} is not v1")])
    if kind != wanted:
        raise Invalid([Problem("kind", f"{quoted(kind)} is not {wanted}")])


def _containers(spec: _Spec) -> tuple[_Container, ...]:
    return (*spec.containers, *(spec.init_containers or ()), *(spec.ephemeral_containers or ()))


def _volumes(spec: _Spec) -> dict[str, CsiVolume]:
    parts = {
        mount.name
        for container in _containers(spec)
        for mount in container.volume_mounts or ()
        if mount.sub_path or mount.sub_path_expr
    }
    return {
        volume.name: CsiVolume(
            (volume.csi.volume_attributes or {}).get(ATTRIBUTE_INTERCEPTOR),
            volume.name in parts,
            frozenset(
                container.name
                for container in (*spec.containers, *(spec.init_containers or ()))
                if any(mount.name == volume.name for mount in container.volume_mounts or ())
            ),
            (volume.csi.volume_attributes or {}).get(ATTRIBUTE_SHIM) == ATTRIBUTE_SHIM_YES,
        )
        for volume in spec.volumes or ()
        if volume.csi and volume.csi.driver == DRIVER_NAME
    }


def _user(spec: _Spec) -> int | None:
    """As kubelet does it for projected tokens: the files belong to the one user that all containers run as."""
    default = spec.security_context.run_as_user if spec.security_context else None
    users = set()
    for container in (*spec.containers, *(spec.init_containers or ())):
        own = container.security_context.run_as_user if container.security_context else None
        users.add(default if own is None else own)
    return users.pop() if len(users) == 1 else None


def _first_pid(annotations: Mapping[str, str]) -> int | None:
    text = annotations.get(ANNOTATION_FIRST_PID)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) > 1):
        at = f"metadata.annotations[{ANNOTATION_FIRST_PID}]"
        raise Invalid([Problem(at, f"{quoted(text)} is not the pid of a pod's first task")])
    return int(text)
