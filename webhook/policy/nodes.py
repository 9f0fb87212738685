"""The nodes that are known, and where pods of given constraints can land. Pure: whoever watches puts and removes.

A node counts by its labels and taints alone, never by whether it, or the agent on it, is well at this moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from kernelsecret.names import LABEL_ENGINE, LABEL_IDMAPPED
from webhook.policy.pods import PodSpec
from webhook.policy.scheduling import UNSCHEDULABLE, Constraints, Taint, read_constraints
from webhook.policy.served import ANYWHERE, IDMAPPED, Needs

_CORDONED = Taint(UNSCHEDULABLE, "", "NoSchedule")
_REMEMBERED = 1024
"""Constraints that are kept with their answer; pods of one template share theirs. The longest unasked goes first."""
_LONGEST_KEY = 4096
"""Bytes of constraints that are worth remembering, so that hostile ones cannot fill the memory."""
MOST_WORK = 100_000
"""Requirements, each compared with each node, that one pod is worth: about 0.1 s, in which nobody else is answered."""


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a node. `address` is where its agent is reached; it decides nothing."""

    name: str
    labels: Mapping[str, str] = MappingProxyType({})
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    address: str = ""

    @property
    def engine(self) -> str:
        """How its agent serves volumes, empty where none has said so."""
        return self.labels.get(LABEL_ENGINE, "")

    @property
    def idmapped(self) -> bool:
        """Whether it was seen to serve a pod with a user namespace of its own."""
        return self.labels.get(LABEL_IDMAPPED) == IDMAPPED

    def meets(self, needs: Needs) -> bool:
        """Whether it has what a mode needs of a node."""
        return needs == ANYWHERE or (self.engine in needs.engines and (self.idmapped or not needs.idmapped))

    @property
    def all_taints(self) -> tuple[Taint, ...]:
        """With the one that a cordon stands for."""
        return (*self.taints, _CORDONED) if self.unschedulable else self.taints


class Landing(NamedTuple):
    """Where pods of given constraints can land: how many nodes, how many of each engine ("" for none), and how many of
    these can serve a pod with a user namespace of its own."""

    total: int
    engines: Mapping[str, int]
    idmapped: Mapping[str, int]

    def able(self, needs: Needs) -> int:
        """How many of the nodes have what a mode needs."""
        if needs == ANYWHERE:
            return self.total
        counts = self.idmapped if needs.idmapped else self.engines
        return sum(counts.get(engine, 0) for engine in needs.engines)


class Nodes:
    """A set of nodes by name. `generation` grows whenever something changes that can decide."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self.generation = 0
        self._nodes: dict[str, Node] = {}
        self._landings: dict[tuple[bytes, bytes, bytes], Landing] = {}
        """What was asked for last is last."""
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """Add a node, or take its new state."""
        known = self._nodes.get(node.name)
        self._nodes[node.name] = node
        if known is None or _decides(known) != _decides(node):
            self._changed()

    def remove(self, name: str) -> None:
        """Forget a node; one that is not known is no error."""
        if self._nodes.pop(name, None) is not None:
            self._changed()

    def get(self, name: str) -> Node | None:
        """The node of that name."""
        return self._nodes.get(name)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def landing(self, spec: PodSpec) -> Landing | None:
        """Where the scheduler can put the pod, None where it would take too long to find out.

        Raises msgspec.DecodeError where its constraints make no sense.
        """
        key = (bytes(spec.node_selector), bytes(spec.tolerations), bytes(spec.affinity))
        known = self._landings.pop(key, None)
        if known is None:
            constraints = read_constraints(spec.node_selector, spec.tolerations, spec.affinity)
            if constraints.size * len(self._nodes) > MOST_WORK:
                return None
            known = self._count(constraints)
            if sum(map(len, key)) > _LONGEST_KEY:
                return known
            if len(self._landings) >= _REMEMBERED:
                del self._landings[next(iter(self._landings))]
        self._landings[key] = known
        return known

    def _count(self, constraints: Constraints) -> Landing:
        tolerated: dict[tuple[Taint, ...], bool] = {}
        engines: Counter[str] = Counter()
        idmapped: Counter[str] = Counter()
        for node in self._nodes.values():
            if not constraints.accept_labels(node.name, node.labels):
                continue
            taints = node.all_taints
            accepted = tolerated.get(taints)
            if accepted is None:
                accepted = tolerated[taints] = constraints.accept_taints(taints)
            if accepted:
                engines[node.engine] += 1
                idmapped[node.engine] += node.idmapped
        return Landing(engines.total(), engines, idmapped)

    def _changed(self) -> None:
        self.generation += 1
        self._landings.clear()


def _decides(node: Node) -> tuple[object, ...]:
    return (node.labels, node.taints, node.unschedulable)
