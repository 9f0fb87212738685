"""What this node can do, said where admission looks: the labels `kernelsecret.io/engine` and `kernelsecret.io/idmapped`
of its Node.

They say what the probe found, not whether an agent runs now: they are never taken away, so a roll of the agents flips
no pod's mode. The engine gets worse only by a probe whose reason lasts: one that may pass (no memory, a file system
that is read only just now) leaves a better label as it is until it has lasted for `LASTING_S`. They are looked at again
from time to time, because a Node that is deleted and registers anew has lost them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agent.model import EngineName
from agent.observe.conditions import Conditions, Reason
from apiclient import paths
from apiclient.client import ApiClient
from kernelsecret.errors import Code, Refused
from kernelsecret.names import LABEL_ENGINE, LABEL_IDMAPPED
from telemetry.logkeys import Event
from telemetry.logs import get_logger

LASTING_S: Final = 600.0
LOOK_S: Final = 300.0
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
_RANK: Final = {EngineName.ITER.value: 2, "rewrite": 1, EngineName.TMPFS.value: 0}

log = get_logger("agent")


class _Meta(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}


class _Node(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()


_node = msgspec.json.Decoder(_Node)


def wanted(current: str | None, engine: EngineName, *, may_pass: bool) -> str:
    """What the label is to say. `current` is what it says, None without one; `may_pass`: the probe found no better for
    a reason that may pass. Pure."""
    is_worse = current is not None and _RANK.get(current, -1) > _RANK[engine.value]
    return current if is_worse and may_pass and current is not None else engine.value


class EngineLabel:
    """Keeps the labels of one node. `sleep` and `chance` (0 to 1) are for tests."""

    def __init__(
        self,
        client: ApiClient,
        node: str,
        conditions: Conditions,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client, self._path, self._conditions = client, paths.node(node), conditions
        self._sleep, self._chance = sleep, chance

    async def run(self, engine: EngineName, idmapped: str, *, may_pass: bool = False) -> None:
        """Keep the labels so until cancelled. `idmapped` is the other label's value."""
        delay, waited = FIRST_RETRY_S, 0.0
        while True:
            try:
                await self.publish(engine, idmapped, may_pass=may_pass and waited < LASTING_S)
            except Refused as refused:
                self._conditions.hold(Reason.ENGINE_UNPUBLISHED, why=str(refused))
                pause, delay = delay, min(2 * delay, LONGEST_RETRY_S)
            else:
                self._conditions.clear(Reason.ENGINE_UNPUBLISHED)
                pause, delay = LOOK_S, FIRST_RETRY_S
            pause *= 0.5 + self._chance()
            waited += pause
            await self._sleep(pause)

    async def publish(self, engine: EngineName, idmapped: str, *, may_pass: bool) -> None:
        """Look once, and write where the labels say something else. Raises Refused."""
        try:
            current = _node.decode(await self._client.get(self._path)).metadata.labels
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Refused(Code.UNAVAILABLE, "node", "the API server's answer is not a Node") from None
        labels = {
            LABEL_ENGINE: wanted(current.get(LABEL_ENGINE), engine, may_pass=may_pass),
            LABEL_IDMAPPED: idmapped,
        }
        if not labels.items() <= current.items():
            await self._client.patch(self._path, msgspec.json.encode({"metadata": {"labels": labels}}))
            log.info(Event.ENGINE_PUBLISHED, engine=labels[LABEL_ENGINE], idmapped=idmapped)
