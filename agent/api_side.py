"""Everything of the agent that speaks to the API server or to the webhook, put together: the cluster's view, this
node's registrations and identity, the label of its Node.

None of it has to answer for the agent to serve what is published, or to be ready for kubelet: a publish that needs what
is not there is refused with the reason, and kubelet tries it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from agent.engine_label import EngineLabel
from agent.kube.cluster import Cluster
from agent.kube.events import EventWriter
from agent.kube.live import ApiCluster
from agent.kube.token_review import TokenVerifier
from agent.model import EngineName
from agent.notices import Notices, Nudge
from agent.observe.conditions import Conditions, Reason
from agent.observe.metrics import Metrics
from agent.observe.recorder import Recorder
from agent.observe.records import RegistrationRefused
from agent.preload.annotation import PodAnnotation
from agent.registrations.room import RegistrationRoom, RoomEvents, RoomSettings
from agent.settings import Settings
from apiclient.client import ApiClient
from apiclient.connection import ACCOUNT_FOLDER, Connection, from_kubeconfig, in_cluster
from kernelsecret.errors import Refused
from kernelsecret.names import TRUST_OBJECT
from kernelsecret.node_api import ServedSecret
from kernelsecret.registration import Registration

FILES, API = "files", "api"
IDENTIFIED_WITHIN_S = 5.0
"""After this time a missing certificate is told."""


def uses_api(settings: Settings) -> bool:
    """Whether the cluster is seen by the API server: as set, and otherwise where there is one to be seen by."""
    if settings.cluster in (FILES, API):
        return settings.cluster == API
    return settings.kubeconfig is not None or (ACCOUNT_FOLDER / "token").is_file()


def connection(settings: Settings) -> Connection:
    """Where the API server is. Raises Refused with what is missing named."""
    return from_kubeconfig(settings.kubeconfig) if settings.kubeconfig else in_cluster()


class ApiSide:
    """Open it in a running loop; `start` and `stop`."""

    def __init__(self, settings: Settings, metrics: Metrics, conditions: Conditions, recorder: Recorder) -> None:
        self._settings, self._metrics, self._conditions, self._recorder = settings, metrics, conditions, recorder
        self.on_registered: Callable[[Registration], None] = lambda registration: None
        """Who fetches ahead."""
        self.nudge: Nudge = lambda source, path: 0
        """Who looks at once at a secret that was pushed."""
        self.served: Callable[[], Sequence[ServedSecret]] = tuple
        """Who knows how the secrets of this node do; asked by the webhook every few seconds."""
        self._client = ApiClient(connection(settings), user_agent="kernelsecret-agent")
        listen, webhook = settings.registrations_address, settings.webhook_address
        self.room = RegistrationRoom(
            self._client,
            RoomSettings(settings.node, listen.host, webhook.host, settings.identity_token, listen.port, webhook.port),
            RoomEvents(
                on_registered=self._registered,
                on_refused=self._refused,
                on_asked=metrics.registration_asked,
                on_identity=self._identified,
                served=lambda: self.served(),
            ),
        )
        self.tokens = TokenVerifier(self._client)
        self.events = EventWriter(self._client, settings.node, count=metrics.pod_event)
        self.notices = Notices(self._client, lambda source, path: self.nudge(source, path))
        self.cluster = ApiCluster(self._client, settings.node, self.room.registration, self.room.forget)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen for registrations. Raises Refused where the port cannot be had."""
        await self.room.start()
        self._tasks.append(asyncio.create_task(self._tell_of_no_identity()))
        self._tasks.append(asyncio.create_task(self.notices.run()))
        self._tasks.append(asyncio.create_task(self.events.run()))

    def annotation(self, cluster: Cluster) -> PodAnnotation:
        """Where programs that the shim does not reach are told; `cluster` says what is told already."""
        return PodAnnotation(self._client, cluster)

    def publish_engine(self, engine: EngineName, idmapped: str, *, may_pass: bool) -> None:
        """Keep the Node's labels so from now on."""
        label = EngineLabel(self._client, self._settings.node, self._conditions)
        self._tasks.append(asyncio.create_task(label.run(engine, idmapped, may_pass=may_pass)))

    async def stop(self) -> None:
        """Idempotent. The label stays."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.room.stop()
        await self._client.close()

    async def _tell_of_no_identity(self) -> None:
        """Nobody has refused one where nobody could be asked yet."""
        await asyncio.sleep(IDENTIFIED_WITHIN_S)
        if not self.room.contexts.is_identified:
            why = f"this node has no certificate yet: does the webhook run, is the ConfigMap {TRUST_OBJECT} there?"
            self._conditions.hold(Reason.NOT_IDENTIFIED, why=why)

    def _registered(self, registration: Registration) -> None:
        self._metrics.registration("held")
        self.on_registered(registration)

    def _refused(self, pod_uid: str, refused: Refused) -> None:
        self._metrics.registration("refused")
        self._recorder.record(
            RegistrationRefused(
                time_ns=time.time_ns(),
                pod_uid=pod_uid,
                code=refused.code.value,
                field=refused.field,
                why=refused.why,
            )
        )

    def _identified(self, refused: Refused | None) -> None:
        if refused is None:
            self._conditions.clear(Reason.NOT_IDENTIFIED)
        else:
            self._conditions.hold(Reason.NOT_IDENTIFIED, why=str(refused))
