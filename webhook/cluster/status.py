"""Writes the status of interceptors, and holds those in use back from going: one replica does, the leader.

What changed is looked at after a short while, so that many changes cost one write; what could not be written is looked
at again. Counting is done in small parts, because the same event loop answers reviews.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from apiclient import paths
from apiclient.backoff import Backoff
from apiclient.client import ApiClient
from apiclient.reflector import Reflector
from kernelsecret.errors import Refused
from kernelsecret.interceptor import SecretInterceptor
from kernelsecret.interceptor_status import InterceptorStatus
from kernelsecret.names import FINALIZER_IN_USE, LABEL_INJECTED, LABEL_INJECTED_YES
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from telemetry.text import rfc3339
from webhook.cluster.asking import Ask, Asking, nobody
from webhook.cluster.objects import Interceptor
from webhook.cluster.served import Summary, summed
from webhook.cluster.usage import Usage, UsingPod, add, desired_status, is_given, read_using_pod
from webhook.cluster.view import ClusterView

QUIET_S: Final = 1.0
"""Between two looks."""
AT_ONCE: Final = 4
"""Writes under way."""
LINGER_S: Final = 30.0
"""How long an interceptor keeps its finalizer after its last pod, so that short-lived pods do not make it flap."""
_PART: Final = 256
"""Pods that are counted before others have their turn."""
_SHARED: Final = 1024
"""Sets of labels that pods share in memory; beyond that sharing begins anew, since pods of Jobs never share theirs."""
_MOST_LABELS: Final = 64
"""Labels of one pod that are kept; of one with more, which may have a megabyte of them, only what selectors ask for."""

log = get_logger("status")


class StatusController:
    """`lead` while this replica leads. It reads what the view has, and watches the pods that were injected."""

    def __init__(
        self,
        client: ApiClient,
        view: ClusterView,
        *,
        ask: Ask = nobody,
        on_write: Callable[[str], None] = lambda result: None,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
        wall_clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._client, self._view, self._on_write = client, view, on_write
        self._quiet_s = quiet_s
        self._clock, self._wall_clock_ns = clock, wall_clock_ns
        self._changed = asyncio.Event()
        self._pods: dict[str, dict[str, UsingPod]] = {}
        self._labels: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._unused_since: dict[str, float] = {}
        self._on_nodes: Counter[str] = Counter()
        self.asking = Asking(ask, self._agent_address, self._changed.set)
        view.on_change = self._changed.set

    async def lead(self) -> None:
        """Watch, ask, count and write until cancelled."""
        self._forget()
        reflector = Reflector(
            self._client,
            paths.pods(),
            self._read,
            key=lambda pod: f"{pod.namespace}/{pod.name}",
            selectors={"labelSelector": f"{LABEL_INJECTED}={LABEL_INJECTED_YES}"},
            on_change=self._pod,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(reflector.run())
                tasks.create_task(self.asking.run())
                await self._rounds(reflector)
        finally:
            self._forget()

    def _forget(self) -> None:
        for kept in (self._pods, self._labels, self._unused_since, self._on_nodes, self.asking):
            kept.clear()

    async def _rounds(self, pods: Reflector[UsingPod]) -> None:
        self._changed.set()
        backoff = Backoff(first_s=self._quiet_s)
        while True:
            await self._changed.wait()
            await asyncio.sleep(self._quiet_s)
            # Counts of a part of the pods would take finalizers away from interceptors in use.
            if not pods.synced or self._view.unsynced:
                continue
            self._changed.clear()
            if await self.round(can_release=pods.is_current):
                backoff.reset()
            else:
                self._changed.set()
                await asyncio.sleep(backoff.next_s())
            if self._unused_since:
                self._changed.set()

    async def round(self, *, can_release: bool) -> bool:
        """Look at every interceptor and write what differs; whether all of it could be written.

        `can_release`: pods are known as they are now, so that one without any may go.
        """
        engines = Counter(node.engine for node in self._view.nodes)
        slots = asyncio.Semaphore(AT_ONCE)
        writes = []
        for interceptor in list(self._view.interceptor_reflector.items.values()):
            usage, on_nodes = await self._usage(interceptor)
            summary = None
            if isinstance(interceptor, SecretInterceptor):
                summary = summed(interceptor, on_nodes, self.asking.reports)
            made = list(self._writes(interceptor, usage, engines, summary, can_release))
            if made:
                writes.append(self._write_in_order(slots, made))
        return all(await asyncio.gather(*writes))

    async def _usage(self, interceptor: Interceptor) -> tuple[Usage, Mapping[str, int]]:
        """Sums, and how many of the pods each node has."""
        usage = Usage()
        on_nodes: Counter[str] = Counter()
        namespaces: set[str] = set()
        holding = list(self._pods.get(interceptor.metadata.name, {}).values())
        for start in range(0, len(holding), _PART):
            part = holding[start : start + _PART]
            usage = add(usage, part, namespaces, lambda pod: self._given(pod, interceptor))
            on_nodes.update(pod.node for pod in part if pod.volumes)
            await asyncio.sleep(0)
        return usage, on_nodes

    def _agent_address(self, node: str) -> str | None:
        if not self._on_nodes[node]:
            return None
        found = self._view.nodes.get(node)
        return found.address if found else ""

    def _given(self, pod: UsingPod, interceptor: Interceptor) -> bool:
        return is_given(pod, interceptor, self._view.namespace_labels(pod.namespace))

    def _writes(
        self,
        interceptor: Interceptor,
        usage: Usage,
        engines: Mapping[str, int],
        summary: Summary | None,
        can_release: bool,
    ) -> Iterable[tuple[str, bytes]]:
        """Path and body of each merge patch that is due."""
        meta = interceptor.metadata
        held = FINALIZER_IN_USE in meta.finalizers
        hold = held if usage.pods or not held else not self._may_go(interceptor, can_release)
        if usage.pods:
            self._unused_since.pop(meta.name, None)
            hold = held or not meta.deletion_timestamp  # none can be added to what is being deleted
        if hold != held:
            finalizers = [one for one in meta.finalizers if one != FINALIZER_IN_USE]
            finalizers += [FINALIZER_IN_USE] if hold else []
            # With the resource version: the list is shared, and a merge patch replaces all of it.
            change = {"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version}}
            yield paths.interceptor(meta.name), msgspec.json.encode(change)
            if not hold and meta.deletion_timestamp:
                return  # it is gone with this
        now = rfc3339_seconds(self._wall_clock_ns())
        has_vault_agent = self._view.vault_agent is not None
        status = desired_status(interceptor, usage, engines, now, summary, has_vault_agent=has_vault_agent)
        if status != interceptor.status:
            yield paths.interceptor_status(meta.name), msgspec.json.encode({"status": _wire(status)})

    def _may_go(self, interceptor: Interceptor, can_release: bool) -> bool:
        name = interceptor.metadata.name
        since = self._unused_since.setdefault(name, self._clock())
        is_due = bool(interceptor.metadata.deletion_timestamp) or self._clock() - since >= LINGER_S
        if can_release and is_due:
            del self._unused_since[name]
            return True
        return False

    async def _write_in_order(self, slots: asyncio.Semaphore, made: Iterable[tuple[str, bytes]]) -> bool:
        """The finalizer before the status that says that pods hold it: who reads that may rely on it."""
        for path, body in made:
            if not await self._write(slots, path, body):
                return False
        return True

    async def _write(self, slots: asyncio.Semaphore, path: str, body: bytes) -> bool:
        async with slots:
            try:
                await self._client.patch(path, body)
            except Refused as refused:
                if getattr(refused, "status", 0) == 404:
                    return True
                self._on_write("failed")
                # A conflict is nothing to tell of: what others wrote comes by the watch, and is looked at then.
                if getattr(refused, "status", 0) != 409:
                    log.warning(Event.STATUS_FAILED, object=path, **problem(refused))
                return False
        self._on_write("ok")
        return True

    def _read(self, raw: bytes) -> UsingPod | None:
        pod = read_using_pod(raw)
        if pod is None:
            return None
        if len(pod.labels) > _MOST_LABELS:
            return msgspec.structs.replace(pod, labels=self._asked_for(pod))
        # Pods of one template share their labels.
        if len(self._labels) >= _SHARED:
            self._labels.clear()
        key = tuple(pod.labels.items())
        return msgspec.structs.replace(pod, labels=self._labels.setdefault(key, pod.labels))

    def _asked_for(self, pod: UsingPod) -> Mapping[str, str]:
        interceptor = self._view.interceptors.get(pod.interceptor)
        if interceptor is None:
            return {}
        selector = interceptor.spec.pod_selector
        asked = {*selector.match_labels, *(one.key for one in selector.match_expressions)}
        return {name: value for name, value in pod.labels.items() if name in asked}

    def _pod(self, key: str, old: UsingPod | None, new: UsingPod | None) -> None:
        if old is not None:
            self._pods.get(old.interceptor, {}).pop(key, None)
            self._on_nodes[old.node] -= bool(old.volumes)
            if not self._on_nodes[old.node]:
                del self._on_nodes[old.node]
        if new is not None:
            self._pods.setdefault(new.interceptor, {})[key] = new
            self._on_nodes[new.node] += bool(new.volumes)
        for node in {one.node for one in (old, new) if one is not None and one.node and one.volumes}:
            self.asking.changed(node)
        self._changed.set()


def rfc3339_seconds(time_ns: int) -> str:
    """A time as Kubernetes writes it, to the second."""
    return rfc3339(time_ns).partition(".")[0] + "Z"


def _wire(status: InterceptorStatus) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(status)
    return found
