"""Asks the agents of nodes that hold pods of ours how their secrets do: each every quarter of a minute, sooner where
its pods have changed, and never many at once. Only the leader does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import ServedSecret
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.cluster.served import Report, report_of

EVERY_S: Final = 15.0
SOON_S: Final = 2.0
"""After a pod came: its volume has been published then, or could not be."""
MOST_PER_S: Final = 20.0
"""Each is a handshake; with more nodes than fit the interval is longer."""
AT_ONCE: Final = 32

Ask = Callable[[str, str], Awaitable[Iterable[ServedSecret]]]
"""Node and address. Raises Refused where the agent does not answer."""


async def nobody(_node: str, _address: str) -> Iterable[ServedSecret]:
    """Where there is no way to the agents."""
    raise Refused(Code.UNAVAILABLE, "agents", "nobody asks them")


_UNHEARD: Final[Report] = {}

log = get_logger("status")


class Asking:
    """`address` gives where the agent of a node is: empty where that is not known, None where nobody has to ask it.
    `on_news` is called when a report is another one.
    """

    def __init__(
        self,
        ask: Ask,
        address: Callable[[str], str | None],
        on_news: Callable[[], None],
        *,
        every_s: float = EVERY_S,
        soon_s: float = SOON_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._ask, self._address, self._on_news = ask, address, on_news
        self._every_s, self._soon_s, self._chance = every_s, soon_s, chance
        self.reports: dict[str, Report | None] = {}
        """By node; None where the agent did not answer last."""
        self._due: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def changed(self, node: str) -> None:
        """Pods have come to the node, or gone from it."""
        at = asyncio.get_running_loop().time() + self._soon_s
        if self._due.get(node, at + 1.0) > at:
            self._due[node] = at
            self._wake.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for node in [one for one, at in self._due.items() if at <= loop.time()]:
                    await self._slots.acquire()
                    self._due[node] = loop.time() + self._next_s()
                    tasks.create_task(self._look(node)).add_done_callback(lambda _: self._slots.release())
                wait = min(self._due.values()) - loop.time() if self._due else None
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()

    def clear(self) -> None:
        """Nothing was asked."""
        self.reports.clear()
        self._due.clear()

    def _next_s(self) -> float:
        return max(self._every_s, len(self._due) / MOST_PER_S) * (0.8 + 0.4 * self._chance())

    async def _look(self, node: str) -> None:
        address = self._address(node)
        if address is None:
            self._due.pop(node, None)
            self.reports.pop(node, None)
            return
        report: Report | None = None
        try:
            if address:
                report = report_of(await self._ask(node, address))
        except Refused as refused:
            if self.reports.get(node, _UNHEARD) is not None:  # once, not each time
                log.warning(Event.AGENT_SILENT, node=node, **problem(refused))
        if node not in self.reports or self.reports[node] != report:
            self.reports[node] = report
            self._on_news()
