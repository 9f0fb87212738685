"""What admission knows of the cluster: kept by watching, asked at once from memory, and read anew where it is in doubt.

Known policy is applied on while the API server is away; how old it is can be seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from apiclient import paths
from apiclient.client import ApiClient
from webhook.cluster.live import LiveReflector
from webhook.cluster.objects import (
    Interceptor,
    InvalidInterceptor,
    Namespace,
    deciding,
    name_of,
    read_known_interceptor,
    read_namespace,
    read_node,
)
from webhook.policy.interceptors import Interceptors
from webhook.policy.nodes import Node, Nodes
from webhook.policy.vault_agent.settings import VaultAgentSettings


class ClusterView:
    """Implements `webhook.policy.view.View`. `run` as a task; `stale` and `unsynced` tell the truth at any time."""

    def __init__(self, client: ApiClient, vault_agent: VaultAgentSettings | None = None) -> None:
        self.vault_agent = vault_agent
        self.nodes = Nodes()
        self.interceptors = Interceptors()
        self.invalid: dict[str, InvalidInterceptor] = {}
        """Interceptors that are in the cluster and cannot work, by name."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when anything has changed."""
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self.node_reflector = LiveReflector(
            client, paths.nodes(), read_node, key=lambda node: node.name, on_change=self._node
        )
        self.namespace_reflector = LiveReflector(
            client, paths.namespaces(), read_namespace, key=lambda found: found.name, on_change=self._namespace
        )
        self.interceptor_reflector: LiveReflector[Interceptor] = LiveReflector(
            client,
            paths.interceptors(),
            read_known_interceptor,
            key=name_of,
            on_change=self._interceptor,
            name="interceptors",
        )
        self.reflectors: Mapping[str, LiveReflector[Node] | LiveReflector[Namespace] | LiveReflector[Interceptor]] = {
            "nodes": self.node_reflector,
            "namespaces": self.namespace_reflector,
            "interceptors": self.interceptor_reflector,
        }

    async def run(self) -> None:
        """List and watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors.values():
                group.create_task(reflector.run())

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Labels of a namespace, None where it is not known. A new mapping whenever they change."""
        return self._namespaces.get(name)

    @property
    def unsynced(self) -> list[str]:
        """Collections that were not listed yet."""
        return [name for name, one in self.reflectors.items() if not one.synced]

    @property
    def stale(self) -> list[str]:
        """Collections that nothing was heard of for a while."""
        return [name for name, one in self.reflectors.items() if not one.is_current]

    @property
    def ages_s(self) -> dict[str, float]:
        """How old each collection may be, in seconds; infinite before it was listed."""
        return {name: one.age_s for name, one in self.reflectors.items()}

    @property
    def age_s(self) -> float:
        """How old the oldest part may be, in seconds."""
        return max(self.ages_s.values())

    def _node(self, name: str, _old: Node | None, new: Node | None) -> None:
        if new is None:
            self.nodes.remove(name)
        else:
            self.nodes.put(new)
        self.on_change()

    def _namespace(self, name: str, _old: Namespace | None, new: Namespace | None) -> None:
        if new is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = new.labels
        self.on_change()

    def _interceptor(self, name: str, old: Interceptor | None, new: Interceptor | None) -> None:
        if isinstance(new, InvalidInterceptor):
            self.invalid[name] = new
        else:
            self.invalid.pop(name, None)
        before = None if old is None or isinstance(old, InvalidInterceptor) else deciding(old)
        after = None if new is None or isinstance(new, InvalidInterceptor) else deciding(new)
        if after is None:
            self.interceptors.remove(name)
        elif after != before:
            self.interceptors.put(after)
        self.on_change()
