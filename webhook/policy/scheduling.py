"""Whether the scheduler could put a pod on a node, as far as labels and taints tell. Pure.

Resources, affinity to other pods and spreading are left out: they decide which of the possible nodes it will be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw

PASSING_TAINTS = frozenset(
    {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
    }
)
"""Taints that say how a node is now, not what it is: a restarted kubelet must not change the mode of new pods."""

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
"""The taint that a cordoned node is taken to have, as the scheduler takes it."""

METADATA_NAME = "metadata.name"

T = TypeVar("T")


class Taint(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One of a node's `spec.taints`."""

    key: str = ""
    value: str = ""
    effect: str = ""


class Toleration(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One of a pod's `spec.tolerations`."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None

    def tolerates(self, taint: Taint) -> bool:
        """The API server's meaning: an empty key, with Exists, or an empty effect matches every one."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        match self.operator or "Equal":
            case "Equal":
                return bool(self.key) and (self.value or "") == taint.value
            case "Exists":
                return True
            case "Lt":
                return _compare(taint.value, self.value, lambda found, wanted: found < wanted)
            case "Gt":
                return _compare(taint.value, self.value, lambda found, wanted: found > wanted)
        return False


class NodeRequirement(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One of `matchExpressions` or `matchFields` of a node selector's term."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None

    def accepts(self, found: str | None) -> bool:
        """Whether a label's (or field's) value, None where it is missing, satisfies the requirement."""
        values = self.values or ()
        match self.operator:
            case "In":
                return found in values
            case "NotIn":
                return found not in values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Lt" if len(values) == 1:
                return _compare(found, values[0], lambda number, bound: number < bound)
            case "Gt" if len(values) == 1:
                return _compare(found, values[0], lambda number, bound: number > bound)
        return False


class NodeTerm(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """All of its requirements must hold; a term without any accepts no node."""

    match_expressions: tuple[NodeRequirement, ...] | None = None
    match_fields: tuple[NodeRequirement, ...] | None = None

    @property
    def size(self) -> float:
        """About how many requirements it has; one with hundreds of values is as good as several."""
        every = (*(self.match_expressions or ()), *(self.match_fields or ()))
        return 1 + sum(1 + len(one.values or ()) / 64 for one in every)

    @property
    def is_empty(self) -> bool:
        """Whether it can accept no node for want of requirements."""
        return not self.match_expressions and not self.match_fields

    def accepts(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node satisfies it."""
        if self.is_empty:
            return False
        return all(one.accepts(labels.get(one.key)) for one in self.match_expressions or ()) and all(
            one.accepts(name if one.key == METADATA_NAME else None) for one in self.match_fields or ()
        )


class NodeSelector(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One of its terms must hold."""

    node_selector_terms: tuple[NodeTerm, ...] | None = None


class NodeAffinity(msgspec.Struct, frozen=True, gc=False):
    """Only what is required; preferences decide nothing here."""

    required: NodeSelector | None = msgspec.field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)


class Affinity(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Only the part about nodes."""

    node_affinity: NodeAffinity | None = None

    @property
    def terms(self) -> tuple[NodeTerm, ...] | None:
        """The terms of which one must hold, None where every node will do."""
        required = self.node_affinity.required if self.node_affinity else None
        return None if required is None else required.node_selector_terms or ()


class Constraints(msgspec.Struct, frozen=True, gc=False):
    """What a pod says about the nodes that it may run on."""

    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    affinity: Affinity | None = None

    @property
    def size(self) -> float:
        """About how many requirements are looked at to judge one node."""
        terms = (self.affinity.terms if self.affinity else None) or ()
        return len(self.node_selector or ()) + len(self.tolerations or ()) + sum(term.size for term in terms)

    def accept_labels(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether node selector and required node affinity accept a node."""
        for key, value in (self.node_selector or {}).items():
            if labels.get(key) != value:
                return False
        terms = self.affinity.terms if self.affinity else None
        return terms is None or any(term.accepts(name, labels) for term in terms)

    def accept_taints(self, taints: tuple[Taint, ...]) -> bool:
        """Whether everything that would keep or drive a pod away is tolerated."""
        tolerations = self.tolerations or ()
        return all(
            any(one.tolerates(taint) for one in tolerations)
            for taint in taints
            if taint.effect in ("NoSchedule", "NoExecute") and taint.key not in PASSING_TAINTS
        )


_SELECTOR = msgspec.json.Decoder(dict[str, str] | None)
_TOLERATIONS = msgspec.json.Decoder(tuple[Toleration, ...] | None)
_AFFINITY = msgspec.json.Decoder(Affinity | None)


def read_constraints(node_selector: Raw, tolerations: Raw, affinity: Raw) -> Constraints:
    """From a pod's raw fields, empty where they are missing. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return Constraints(_read(_SELECTOR, node_selector), _read(_TOLERATIONS, tolerations), read_affinity(affinity))


def read_affinity(affinity: Raw) -> Affinity | None:
    """A pod's `spec.affinity`. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return _read(_AFFINITY, affinity)


def _read(decoder: msgspec.json.Decoder[T], raw: Raw) -> T | None:
    return decoder.decode(raw) if raw else None


def _compare(found: str | None, wanted: str | None, holds: Callable[[int, int], bool]) -> bool:
    """Numbers compare as numbers; what is no number satisfies nothing."""
    try:
        return holds(int(found or ""), int(wanted or ""))
    except ValueError:
        return False
