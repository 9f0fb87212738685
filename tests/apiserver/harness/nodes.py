"""A node's agent as far as admission meets it: its real registrations, in this process, over real TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agent.registrations.room import RegistrationRoom, RoomEvents, RoomSettings
from apiclient.client import ApiClient
from apiclient.connection import from_kubeconfig
from kernelsecret.errors import Refused
from kernelsecret.names import ACCOUNT_AGENT, AUDIENCE_IDENTITY, SYSTEM_NAMESPACE
from kernelsecret.node_api import ServedSecret
from kernelsecret.registration import Registration
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.waiting import DEADLINE_S, POLL_S
from tests.apiserver.harness.webhook import Webhook


class Agent:
    """What it heard: registrations handed over, questions asked, and what it refused. It says that it `serves` so."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.handed_over: list[Registration] = []
        self.refused: list[Refused] = []
        self.asked: list[str] = []
        self.identity: list[Refused | None] = []
        self.serves: list[ServedSecret] = []
        self.room: RegistrationRoom

    def events(self) -> RoomEvents:
        """Notes everything."""
        return RoomEvents(
            self.handed_over.append,
            lambda _, refused: self.refused.append(refused),
            self.asked.append,
            self.identity.append,
            lambda: self.serves,
        )

    def has(self, pod_name: str) -> Registration | None:
        """What was handed over for a pod."""
        return next((one for one in self.handed_over if one.name == pod_name), None)


def agent_pod(cluster: Cluster, node: str) -> str:
    """Create the pod that an agent runs in on a node; its name."""
    name = f"agent-on-{node}"
    thing = pod(name, serviceAccountName=ACCOUNT_AGENT, nodeName=node)
    cluster.core.create_namespaced_pod(SYSTEM_NAMESPACE, thing)
    return name


@asynccontextmanager
async def agent(webhook: Webhook, node: str, *, token_of: str = "", files: Path) -> AsyncIterator[Agent]:
    """An agent of `node`, one of NODES. `token_of` is the pod whose token it shows, if not its own."""
    cluster = webhook.cluster
    own = token_of or await asyncio.to_thread(agent_pod, cluster, node)
    token = cluster.token(SYSTEM_NAMESPACE, ACCOUNT_AGENT, audience=AUDIENCE_IDENTITY, pod=own)
    token_file = files / f"{node}.token"
    token_file.touch(0o600)
    token_file.write_text(token)
    port = int(webhook.settings["agent_port"])
    replica = next(iter(webhook.replicas.values()))
    kubeconfig = cluster.kubeconfig_of(SYSTEM_NAMESPACE, ACCOUNT_AGENT, file=f"agent-{node}.json")
    client = ApiClient(from_kubeconfig(kubeconfig))
    heard = Agent(node)
    settings = RoomSettings(node, NODES[node], "127.0.0.1", token_file, port, replica.nodes_port)
    heard.room = RegistrationRoom(client, settings, heard.events())
    try:
        await heard.room.start()
        yield heard
    finally:
        await heard.room.stop()
        await client.close()
        if not token_of:
            await asyncio.to_thread(cluster.remove_pod, SYSTEM_NAMESPACE, own)


async def eventually(found: Callable[[], object], what: str, explain: Callable[[], str] = lambda: "") -> None:
    """As `waiting.until`, while this process goes on serving."""
    end = time.monotonic() + DEADLINE_S
    while not found():
        assert time.monotonic() < end, f"in {DEADLINE_S:g} s not: {what}\n{explain()}"
        await asyncio.sleep(POLL_S)


NODES: Final = {"handed-1": "127.0.0.21", "handed-2": "127.0.0.22", "late-1": "127.0.0.23"}
"""Nodes with agents, each at an address of its own, as their port is the same."""
