"""The `kubernetes` source: a Secret of a pod's namespace, read with the token of the pod's own account.

Where an interceptor says `readAs: agent`, the agent's own account reads it, which an admin has let do so in that
namespace. A watch of the metadata alone tells of changes; each value is read, and so authorised, by a GET of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.credentials import Credentials
from agent.model import Observer, SecretRef, SecretVersion, SourceFacts
from agent.sources.kubernetes.clients import Clients
from agent.sources.kubernetes.place import SOURCE, place_of
from agent.sources.kubernetes.reading import Reading
from agent.sources.kubernetes.shared import MOST_WATCHES, Shared
from agent.sources.kubernetes.tracker import SecretTracker
from agent.sources.subscriptions import Subscription, leaving, silence
from apiclient.connection import Connection
from kernelsecret.names import ACCOUNT_AGENT, SYSTEM_NAMESPACE

AGENT_ACCOUNT = f"{SYSTEM_NAMESPACE}/{ACCOUNT_AGENT}"


class KubernetesSource:
    """Implements `agent.model.Source`. Use it on one event loop."""

    name = SOURCE

    def __init__(
        self,
        connection: Connection,
        credentials: Credentials,
        pace: Callable[[SecretRef], float],
        *,
        agent_account: str = AGENT_ACCOUNT,
        most_watches: int = MOST_WATCHES,
        hint: Callable[[SecretRef, str], None] = lambda ref, text: None,
        count: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """`connection` is the agent's own; of it only address and CA are used with the tokens of pods. `pace` says how
        often, in seconds, a Secret is read that cannot be watched. `hint` hears once what would mend that, `count`
        the kind of each read that failed."""
        self._agent_account = agent_account
        self._clients = Clients(connection, credentials)
        self._shared = Shared(pace, most_watches, hint, count)
        self._trackers: dict[SecretRef, SecretTracker] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        credentials.on_put(self._token_came)

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        """Every key as of now, by the reader's own right.

        Raises Refused: PERMISSION_DENIED, NOT_FOUND, FAILED_PRECONDITION for what cannot be served, UNAVAILABLE.
        """
        place = place_of(ref, self._agent_account)
        tracker = self._trackers.get(ref)
        if tracker is not None:
            return await tracker.look()
        client = self._clients.take(ref.reader)
        try:
            read = await Reading(client, place, self._shared).get()
        finally:
            self._clients.give_back(ref.reader)
        return SecretVersion(ref, read.values, label=f"version {read.version}")

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        """Tell the observer of every version until the returned function is called. Needs a running loop.

        Its first call tells the state at the start of watching (`changed_ns` 0), so that nothing between a fetch and
        the watch is lost; it may be what was fetched.
        """
        place = place_of(ref, self._agent_account)
        tracker = self._trackers.get(ref)
        if tracker is None:
            tracker = SecretTracker(Reading(self._clients.take(ref.reader), place, self._shared), self._shared)
            self._trackers[ref] = tracker
            tracker.start()
        subscription = Subscription(observer)
        tracker.subscribe(subscription)
        return leaving(subscription, tracker.subscriptions, lambda: self._drop_if_unwatched(ref, tracker))

    def nudge(self, path: str) -> int:
        """Look at once at the Secrets of this name, with or without their namespace before it."""
        meant = [one for ref, one in self._trackers.items() if path in (ref.path, ref.path.partition("/")[2])]
        for tracker in meant:
            tracker.wake()
        return len(meant)

    def facts(self, ref: SecretRef) -> SourceFacts | None:
        """What is known of a watched Secret."""
        tracker = self._trackers.get(ref)
        return tracker.facts if tracker else None

    def holds_old(self, ref: SecretRef) -> bool:
        """A Secret holds no lease."""
        return False

    def all_read(self, ref: SecretRef, label: str) -> None:
        """A Secret holds no lease."""

    async def close(self) -> None:
        """Stop watching everything. Idempotent; observers hear no more."""
        for ref, tracker in tuple(self._trackers.items()):
            silence(tracker.subscriptions)
            self._drop(ref, at_once=True)
        await asyncio.gather(*self._stopping)
        await self._clients.close()

    def _drop_if_unwatched(self, ref: SecretRef, tracker: SecretTracker) -> None:
        if not tracker.subscriptions and self._trackers.get(ref) is tracker:
            self._drop(ref)

    def _drop(self, ref: SecretRef, *, at_once: bool = False) -> None:
        tracker = self._trackers.pop(ref)
        task = asyncio.get_running_loop().create_task(self._stopped(ref, tracker, at_once))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stopped(self, ref: SecretRef, tracker: SecretTracker, at_once: bool) -> None:
        try:
            await tracker.stop(at_once=at_once)
        finally:
            self._clients.give_back(ref.reader)

    def _token_came(self, reader: str) -> None:
        for ref, tracker in self._trackers.items():
            if ref.reader == reader:
                tracker.token_came()
