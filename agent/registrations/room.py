"""All of the node's registrations put together: trust, identity, the door, the book and the asking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.model import PodRef
from agent.registrations.asking import Registrations
from agent.registrations.book import RegistrationBook
from agent.registrations.contexts import NodeContexts
from agent.registrations.door import DoorEvents, RegistrationDoor
from agent.registrations.identity import NodeIdentity
from agent.registrations.trust import TrustView, read_trust
from agent.registrations.webhook_door import WebhookDoor
from apiclient import paths
from apiclient.client import ApiClient
from apiclient.reflector import Reflector
from kernelsecret.errors import Refused
from kernelsecret.names import PORT_AGENT, PORT_NODES, SYSTEM_NAMESPACE, TRUST_OBJECT
from kernelsecret.node_api import ServedSecret
from kernelsecret.registration import Registration
from kernelsecret.trust import Trust

IDENTITY_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """`host`:`port` is where the door listens, `webhook_host`:`webhook_port` where the webhook's door for nodes is;
    `token_file` holds the agent's own token for the audience `names.AUDIENCE_IDENTITY`.
    """

    node: str
    host: str
    webhook_host: str
    token_file: Path
    port: int = PORT_AGENT
    webhook_port: int = PORT_NODES


@dataclass(frozen=True, slots=True)
class RoomEvents:
    """Who wants to know, and who knows. All are called on the event loop."""

    on_registered: Callable[[Registration], None] = lambda registration: None
    """A registration was handed over: its values may be fetched ahead."""
    on_refused: Callable[[str, Refused], None] = lambda pod_uid, refused: None
    """One was not taken, or a stranger called: for the audit."""
    on_asked: Callable[[str], None] = lambda outcome: None
    """The webhook was asked: `ok` or the refusal's code."""
    on_identity: Callable[[Refused | None], None] = lambda refused: None
    """The certificate was renewed (None), or could not be."""
    served: Callable[[], Sequence[ServedSecret]] = tuple
    """Asked for what this node serves, for the webhook."""


class RegistrationRoom:
    """`start` in a running loop, `stop` at the end; a failing webhook keeps neither from working."""

    def __init__(
        self,
        client: ApiClient,
        settings: RoomSettings,
        events: RoomEvents | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        events = events or RoomEvents()
        self.contexts = NodeContexts()
        self.book = RegistrationBook(now)
        self.trust = TrustView(self._trusted)
        self._authorities = ""
        self._webhook = WebhookDoor(settings.webhook_host, settings.webhook_port, timeout_s=IDENTITY_WITHIN_S)
        self.identity = NodeIdentity(
            settings.node,
            settings.token_file,
            self._webhook,
            self.contexts,
            now,
            on_failed=events.on_identity,
            on_renewed=lambda not_after: events.on_identity(None),
        )
        self.door = RegistrationDoor(
            settings.node,
            settings.host,
            settings.port,
            self.contexts,
            lambda: self.trust.keys,
            self.book,
            now,
            DoorEvents(events.on_registered, events.on_refused, events.served),
        )
        self._registrations = Registrations(
            settings.node,
            self.book,
            self._webhook,
            self.contexts,
            lambda: self.trust.keys,
            now,
            on_asked=events.on_asked,
            on_cut=self.identity.renew_soon,
        )
        self._reflector = Reflector(
            client,
            paths.config_maps(SYSTEM_NAMESPACE),
            read_trust,
            key=lambda _: TRUST_OBJECT,
            selectors=paths.only(TRUST_OBJECT),
            on_change=self.trust.changed,
            name="trust",
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen, and go for trust and identity in the background. Raises Refused where the port cannot be had."""
        await self.door.start()
        self._tasks = [asyncio.create_task(self._reflector.run()), asyncio.create_task(self.identity.run())]

    async def stop(self) -> None:
        """Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._registrations.close()
        await self.door.stop()
        await self._webhook.close()

    async def registration(self, pod: PodRef) -> Registration:
        """What admission says of the pod, asked for where it is not held. Raises Refused."""
        return await self._registrations.registration(pod)

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self.book.forget(pod_uid)

    def _trusted(self, trust: Trust) -> None:
        self.contexts.trust(trust.authorities)
        if trust.authorities != self._authorities:
            self._authorities = trust.authorities
            self.identity.trusts_change()
