"""What admission knows of the cluster when it decides. Types only; `webhook.cluster` fills one by watching."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Nodes
from webhook.policy.vault_agent.settings import VaultAgentSettings


class View(Protocol):
    """Answers at once, from memory. Both sets are the same objects for as long as the view lives."""

    @property
    def nodes(self) -> Nodes:
        """All nodes that are known."""

    @property
    def interceptors(self) -> Interceptors:
        """All valid interceptors that are known, with those that are being deleted."""

    @property
    def vault_agent(self) -> VaultAgentSettings | None:
        """What mode `vault-agent` needs, None where it was not set."""

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Labels of a namespace, None where it is not known."""


@dataclass(frozen=True, slots=True)
class FixedView:
    """A view of what was collected once: for the command line, and for tests."""

    nodes: Nodes = field(default_factory=Nodes)
    interceptors: Interceptors = field(default_factory=Interceptors)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    vault_agent: VaultAgentSettings | None = None

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Labels of a namespace that was collected."""
        return self.namespaces.get(name)
