"""A second look before a refusal: reads live what a lagging watch may not have brought yet. Bounded in time and
rate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from apiclient import paths
from apiclient.client import ApiClient
from apiclient.objects import Unreadable, read_page
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.cluster.view import ClusterView
from webhook.policy.steps import ALL, Doubt

WITHIN_S: Final = 1.5
"""Of one look. The API server waits for us meanwhile, and whoever creates the pod for it."""
FRESH_S: Final = 0.5
"""What was read so long ago is not read again while the watch is open, which brings what changed since: a controller
that is refused comes back at once.
"""
PER_S: Final = 20.0
BURST: Final = 40.0
"""Reads a second of this replica, whoever provokes them."""
_MOST_REMEMBERED = 4096

log = get_logger("cluster")


class Refresher:
    """`look` reads objects into the view. Those who ask for the same at the same time share one read."""

    def __init__(
        self,
        client: ApiClient,
        view: ClusterView,
        *,
        on_read: Callable[[str], None] = lambda result: None,
        within_s: float = WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._view, self._on_read = client, view, on_read
        self._within_s = within_s
        self._clock = clock
        self._reading: dict[tuple[str, str], asyncio.Task[bool]] = {}
        self._read_at: dict[tuple[str, str], float] = {}
        self._left = BURST
        self._filled_at = clock()

    async def look(self, *, namespace: str = "", interceptors: Sequence[str] = (), node: str = "") -> bool:
        """Whether all that was named is known as it is now. `*` stands for all of a kind.

        All interceptors are read; all nodes are too many to be, so there it is the watch that must be current.
        """
        if node == ALL:
            node = ""
            if not self._view.node_reflector.is_current:
                return False
        wanted = [("namespace", namespace), ("node", node), *(("interceptor", name) for name in interceptors)]
        looks = await asyncio.gather(*(self._one(kind, name) for kind, name in wanted if name))
        return all(looks)

    async def second_look(self, doubt: Doubt) -> str:
        """Read what a refusal doubts; what to add to its message, should it stand."""
        interceptors = (doubt.interceptor,) if doubt.interceptor else ()
        knows = await self.look(namespace=doubt.namespace, interceptors=interceptors, node=doubt.node)
        invalid = self._view.invalid.get(doubt.interceptor)
        if invalid is not None:
            return f"the interceptor {quoted(doubt.interceptor)} is there, but it cannot work: {invalid.why}"
        if knows:
            return ""
        age = self._view.age_s
        old = f"is {age:.0f} s old" if age < float("inf") else "is not complete yet"
        return f"what is known of the cluster {old}, and could not be read again: try again"

    async def _one(self, kind: str, name: str) -> bool:
        key = (kind, name)
        now = self._clock()
        watched = self._view.reflectors[f"{kind}s"].age_s == 0.0
        if watched and now - self._read_at.get(key, float("-inf")) < FRESH_S:
            return True
        task = self._reading.get(key)
        if task is None:
            if not self._allowed(now):
                self._on_read("limited")
                return False
            task = self._reading[key] = asyncio.create_task(self._read(kind, name))
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        # One who goes away must not take the read from the others.
        return await asyncio.shield(task)

    def _allowed(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._filled_at) * PER_S)
        self._filled_at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    async def _read(self, kind: str, name: str) -> bool:
        try:
            async with asyncio.timeout(self._within_s):
                await _READERS[kind](self._client, self._view, name)
        except (Refused, TimeoutError, Unreadable) as error:
            if not (isinstance(error, Refused) and error.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT)):
                log.warning(Event.REFRESH_FAILED, collection=f"{kind}s", object=name, **problem(error))
                self._on_read("failed")
                return False
        if len(self._read_at) >= _MOST_REMEMBERED:
            self._read_at.clear()
        self._read_at[kind, name] = self._clock()
        self._on_read("read")
        return True


async def _namespace(client: ApiClient, view: ClusterView, name: str) -> None:
    view.namespace_reflector.absorb(await client.get(paths.namespace(name), timeout_s=WITHIN_S))


async def _node(client: ApiClient, view: ClusterView, name: str) -> None:
    view.node_reflector.absorb(await client.get(paths.node(name), timeout_s=WITHIN_S))


async def _interceptor(client: ApiClient, view: ClusterView, name: str) -> None:
    if name != ALL:
        view.interceptor_reflector.absorb(await client.get(paths.interceptor(name), timeout_s=WITHIN_S))
        return
    for raw in read_page(await client.get(paths.interceptors(), timeout_s=WITHIN_S)).items or ():
        view.interceptor_reflector.absorb(bytes(raw))


_READERS: Final[dict[str, Callable[[ApiClient, ClusterView, str], Awaitable[None]]]] = {
    "namespace": _namespace,
    "node": _node,
    "interceptor": _interceptor,
}
