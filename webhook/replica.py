"""One replica of the webhook, put together: learns the cluster, serves until told to stop, and leaves without losing a
review.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from starlette.requests import Request

from apiclient.client import ApiClient
from apiclient.connection import from_kubeconfig, in_cluster
from apiclient.election import LeaderElection
from certs.bundle import peer_hosts
from certs.rotation import Policy
from kernelsecret.names import HOST_WEBHOOK, LEASE_WEBHOOK, SERVICE_WEBHOOK
from telemetry.logkeys import Event
from telemetry.logs import configure, get_logger
from webhook import memory
from webhook.admission.answer import Answer
from webhook.admission.binding import binding
from webhook.admission.mutate import mutate
from webhook.admission.validate import validate
from webhook.cluster.refresh import Refresher
from webhook.cluster.status import StatusController
from webhook.cluster.view import ClusterView
from webhook.handover.agents import Agents
from webhook.handover.door import DoorParts, NodeDoor
from webhook.handover.issuer import Issuer
from webhook.handover.limits import Limiter
from webhook.handover.mode_events import ModeEvents
from webhook.handover.reviewing import TokenReviewer
from webhook.handover.sender import Handover
from webhook.keeping.keeper import Keeper
from webhook.observe.metrics import Metrics
from webhook.observe.trail import Trail
from webhook.options import PREFIX
from webhook.push.committing import Committer
from webhook.push.door import SENDER, PushDoor, PushParts
from webhook.push.keys import SenderKeys
from webhook.push.named import Named
from webhook.push.telling import Teller
from webhook.server.admission import BIND, Door
from webhook.server.app import App
from webhook.server.peer import peer_certificate
from webhook.server.readiness import Readiness
from webhook.server.serve import Port, bind
from webhook.server.tls import LiveTls
from webhook.settings import Settings
from webhook.vault_agent_settings import vault_agent_settings

HANDOVER_DRAIN_S = 3.0
CALLERS = (128, 8.0)
"""Requests for a certificate that come from one address, whoever it is: so many at once, so many a second."""
IDENTITIES = (4, 1 / 60)
"""Certificates that one node gets: so many at once, so many a second."""
REGISTRATIONS = (256, 32.0)

log = get_logger("webhook")


class Replica:
    """The parts of one replica. `run` serves until `stop` is set, and then leaves in good order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stop = asyncio.Event()
        self.metrics = Metrics()
        configure(settings.log_level, on_dropped=self.metrics.log_fields_dropped)
        self.trail = Trail(settings.audit_log, f"{PREFIX}AUDIT_LOG", self.metrics.audit_lost)
        connection = from_kubeconfig(settings.kubeconfig) if settings.kubeconfig else in_cluster()
        self.client = ApiClient(connection, user_agent="kernelsecret-webhook")
        self.view = ClusterView(self.client, vault_agent_settings(settings))
        self.refresher = Refresher(self.client, self.view, on_read=self.metrics.refreshed)
        self.keeper = Keeper(self.client, Policy(hosts=_hosts(settings)), namespace=settings.namespace)
        self.readiness = Readiness(self.view, self.keeper)
        self.election = LeaderElection(self.client, settings.namespace, LEASE_WEBHOOK, settings.identity)
        self.agents = Agents(self.keeper.client_context, port=settings.agent_port)
        self.status = StatusController(
            self.client, self.view, ask=self.agents.served, on_write=self.metrics.status_write
        )
        self.issuer = Issuer(self.client, self.view, self._refresh_for_issuer, self.keeper.signing_key, _utc_now)
        self.mode_events = ModeEvents(self.client, settings.identity, _utc_now, count=self.metrics.mode_event)
        self.handover = Handover(
            self.issuer,
            self.agents,
            self.view.nodes,
            on_outcome=self.metrics.handover,
            on_bound=self.mode_events.tell,
            within_s=settings.handover_s,
        )
        self.push_keys = SenderKeys(self.client, settings.namespace, on_change=self.metrics.push_keys)
        self.committer = Committer(self.client, settings.namespace, on_write=self.metrics.notice_write)
        self.metrics.refresh = self._bring_in
        self._tls = LiveTls(asks_peer=False)
        self._nodes_tls = LiveTls(asks_peer=True)
        self.keeper.on_change(self._use_keys)

    async def run(self) -> None:
        """Serve. Raises Refused where an address or a file cannot be had; what ends by itself ends the process."""
        settings = self.settings
        admission = self._port(self._application(), settings.address, "ADDRESS", self._tls)
        nodes = self._port(self._node_door().app, settings.nodes_address, "NODES_ADDRESS", self._nodes_tls)
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(job)
                    for job in (
                        self.trail.run(),
                        self.view.run(),
                        self.keeper.run(),
                        self.handover.run(),
                        self.mode_events.run(),
                        self.push_keys.run(),
                        self.committer.run(),
                    )
                ]
                leading = tasks.create_task(self.election.run(self._lead))
                serving = [tasks.create_task(port.run_until_told()) for port in (admission, nodes)]
                background.append(tasks.create_task(self._settle((admission, nodes))))
                await self.stop.wait()
                await self._leave(leading, (admission, nodes), serving)
                for task in background:
                    task.cancel()
        finally:
            await self.handover.close(0.0)
            await self.trail.close()
            await self.client.close()

    # Steps of `run`

    def _application(self) -> App:
        limit, view = self.settings.max_body, self.view

        def door(name: str, judge: Callable[[bytes], Answer], *, looks: bool = True) -> Door:
            return Door(
                name,
                judge,
                self.metrics,
                self.trail.take,
                max_body=limit,
                look_again=self.refresher.second_look if looks else None,
                is_draining=lambda: self.readiness.is_draining,
            )

        doors = {
            "/mutate": door("mutate", partial(mutate, view=view, limit=limit)),
            "/validate": door("validate", partial(validate, view=view, limit=limit)),
            "/bind": door(BIND, partial(binding, offer=self.handover.offer, limit=limit), looks=False),
        }
        app = App(doors, self.readiness, self.metrics)
        self._push_door().add_to(app)
        return app

    def _push_door(self) -> PushDoor:
        return PushDoor(
            PushParts(
                keys=self.push_keys,
                committer=self.committer,
                named=Named(self.view),
                teller=Teller(self.trail.take, self.metrics.push),
                senders=Limiter(*SENDER, asyncio.get_running_loop().time, what="sender"),
                is_draining=lambda: self.readiness.is_draining,
            )
        )

    def _node_door(self) -> NodeDoor:
        monotonic = asyncio.get_running_loop().time
        return NodeDoor(
            DoorParts(
                issuer=self.issuer,
                reviewer=TokenReviewer(self.client),
                certify=self.keeper.certify,
                peer_hosts=_peer_hosts,
                callers=Limiter(*CALLERS, monotonic, what="address"),
                identities=Limiter(*IDENTITIES, monotonic),
                registrations=Limiter(*REGISTRATIONS, monotonic),
                on_answer=self.metrics.node_request,
                # One that names its node has no binding that would tell it, and a hint can be lost.
                on_given=self.mode_events.tell,
            )
        )

    def _port(self, application: Any, address: Any, setting: str, tls: LiveTls) -> Port:
        bound = bind(address.host, address.port, f"{PREFIX}{setting}")
        return Port(application, bound, tls, finish_s=self.settings.finish_s)

    async def _settle(self, ports: Sequence[Port]) -> None:
        """Say where it listens, and when it is ready."""
        for port in ports:
            await port.listening.wait()
            log.info(Event.SERVING, address="{}:{}".format(*port.address))
        await self.readiness.wait()
        memory.settle()
        log.info(Event.WEBHOOK_READY, identity=self.settings.identity)

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.keeper.lead())
            tasks.create_task(self.status.lead())

    async def _leave(
        self, leading: asyncio.Task[Any], ports: Sequence[Port], serving: Sequence[asyncio.Task[Any]]
    ) -> None:
        """Not ready from now on, but serving until nobody can have been told to come; then what is under way ends."""
        was_ready = self.readiness.is_ready
        self.readiness.is_draining = True
        log.info(Event.WEBHOOK_DRAINING)
        leading.cancel()
        if was_ready:
            await asyncio.sleep(self.settings.drain_s)
        for port in ports:
            port.should_exit = True
        await asyncio.wait(serving)
        await self.handover.close(HANDOVER_DRAIN_S)
        await asyncio.wait([leading])

    # What parts ask of others

    async def _refresh_for_issuer(self, namespace: str, interceptors: Sequence[str]) -> None:
        await self.refresher.look(namespace=namespace, interceptors=interceptors)

    def _use_keys(self) -> None:
        self._tls.use(self.keeper.server_context())
        self._nodes_tls.use(self.keeper.node_context())
        self.metrics.certificate_ends(self.keeper.current().leaf.not_after.timestamp())

    def _bring_in(self) -> None:
        for name, reflector in self.view.reflectors.items():
            self.metrics.known(name, len(reflector.items), reflector.age_s)
        self.metrics.invalid_interceptors(len(self.view.invalid))
        self.metrics.state(ready=self.readiness.is_ready, leads=self.election.is_leader)


def _hosts(settings: Settings) -> tuple[str, ...]:
    service = f"{SERVICE_WEBHOOK}.{settings.namespace}.svc"
    return tuple(dict.fromkeys((HOST_WEBHOOK, service, *settings.extra_hosts)))


def _peer_hosts(request: Request) -> Sequence[str]:
    certificate = peer_certificate(request.scope)
    return peer_hosts(certificate) if certificate else ()


def _utc_now() -> datetime:
    return datetime.now(UTC)
