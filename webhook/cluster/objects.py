"""What is kept of the cluster's objects, decoded from their JSON. Pure; all that is not kept is skipped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kernelsecret.interceptor import ObjectMeta, SecretInterceptor
from kernelsecret.interceptor_status import InterceptorStatus
from kernelsecret.problems import Invalid
from kernelsecret.validation import read_interceptor
from webhook.policy.nodes import Node
from webhook.policy.scheduling import Taint


class Namespace(NamedTuple):
    """A namespace and its labels."""

    name: str
    labels: Mapping[str, str]


class InvalidInterceptor(msgspec.Struct, frozen=True):
    """An interceptor that is in the cluster and cannot work, and why."""

    metadata: ObjectMeta
    status: InterceptorStatus | None = None
    why: str = ""


Interceptor = SecretInterceptor | InvalidInterceptor


class _Meta(msgspec.Struct, frozen=True, gc=False):
    name: str
    labels: dict[str, str] | None = None


class _NodeSpec(msgspec.Struct, frozen=True, gc=False):
    taints: tuple[Taint, ...] | None = None
    unschedulable: bool | None = None


class _Address(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct, frozen=True, gc=False):
    addresses: tuple[_Address, ...] | None = None


class _Node(msgspec.Struct, frozen=True, gc=False):
    metadata: _Meta
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()


class _Namespace(msgspec.Struct, frozen=True, gc=False):
    metadata: _Meta


_nodes = msgspec.json.Decoder(_Node)
_namespaces = msgspec.json.Decoder(_Namespace)
_invalid = msgspec.json.Decoder(InvalidInterceptor)


def read_node(raw: bytes) -> Node:
    """A node from its JSON. Raises msgspec.DecodeError."""
    found = _nodes.decode(raw)
    address = next((one.address for one in found.status.addresses or () if one.type == "InternalIP"), "")
    return Node(
        name=found.metadata.name,
        labels=found.metadata.labels or {},
        taints=found.spec.taints or (),
        unschedulable=bool(found.spec.unschedulable),
        address=address,
    )


def read_namespace(raw: bytes) -> Namespace:
    """A namespace from its JSON. Raises msgspec.DecodeError."""
    found = _namespaces.decode(raw)
    return Namespace(found.metadata.name, found.metadata.labels or {})


def read_known_interceptor(raw: bytes) -> Interceptor:
    """An interceptor from its JSON; one that cannot work is kept with its problems. Raises msgspec.DecodeError."""
    thing = msgspec.json.decode(raw)
    try:
        return read_interceptor(thing)
    except Invalid as invalid:
        return msgspec.structs.replace(_invalid.decode(raw), why=str(invalid))


def name_of(interceptor: Interceptor) -> str:
    """The object's name."""
    return interceptor.metadata.name


def deciding(interceptor: SecretInterceptor) -> SecretInterceptor:
    """Only what can decide about a pod: a new status, label or annotation leaves it equal."""
    meta = interceptor.metadata
    kept = ObjectMeta(
        name=meta.name, uid=meta.uid, generation=meta.generation, deletion_timestamp=meta.deletion_timestamp
    )
    return msgspec.structs.replace(interceptor, metadata=kept, status=None)
