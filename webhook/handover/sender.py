"""The hand-over: from a hint that a pod is being bound to its registration at the agent of its node.

Beside the scheduling path, bounded in everything, best effort: what is lost here the agent asks for. A hint is only a
reason to look; which node it is, and whether it is given anything, the live pod says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec

from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.handover.agents import Agents, Answer
from webhook.handover.issuer import Issuer, injected_interceptor
from webhook.handover.queue import HintQueue
from webhook.hints import Hint
from webhook.policy.nodes import Nodes
from webhook.policy.pods import Pod
from webhook.policy.volumes import has_vault_agent

QUEUE = 4096
WORKERS = 16
WITHIN_S = 6.0
"""From taking a hint to its end, however it ends."""
BINDING_S = 3.0
"""How long the store may take to say which node it is: the review of a binding comes before it."""
FIRST_LOOK_S = 0.02
LONGEST_LOOK_S = 0.5

log = get_logger("handover")


class Outcome(StrEnum):
    """How a hint ended. Each is a label of a metric."""

    DELIVERED = "delivered"
    KNOWN = "known"  # the agent has had it
    NOT_OURS = "not-ours"  # the pod was not injected
    GONE = "gone"  # no such pod any more, or another of its name
    NOT_BOUND = "not-bound"  # no node was written into it in time
    NOT_GIVEN = "not-given"  # policy does not give it any more
    NOT_NEEDED = "not-needed"  # the pod has a Vault Agent of its own
    UNREACHABLE = "unreachable"  # the agent or its node
    REFUSED = "refused"  # by the agent
    FAILED = "failed"  # the API server, time, or we ourselves
    DROPPED = "dropped"  # the queue was full, or we are going down


class _Ended(Exception):
    """A hint that came to nothing: as it may, or with the refusal that an operator should see."""

    def __init__(self, outcome: Outcome, refused: Refused | None = None) -> None:
        self.outcome = outcome
        self.refused = refused
        super().__init__(outcome)


class Handover:
    """`offer` from admission, `run` as a task, `close` at the end. `on_outcome` hears each outcome with its seconds,
    `on_bound` of each live pod of ours that has a node."""

    def __init__(
        self,
        issuer: Issuer,
        agents: Agents,
        nodes: Nodes,
        *,
        on_outcome: Callable[[Outcome, float], None] = lambda outcome, seconds: None,
        on_bound: Callable[[Pod], None] = lambda pod: None,
        limit: int = QUEUE,
        workers: int = WORKERS,
        within_s: float = WITHIN_S,
        binding_s: float = BINDING_S,
        monotonic: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._issuer, self._agents, self._nodes, self._on_outcome = issuer, agents, nodes, on_outcome
        self._on_bound = on_bound
        self._workers, self._within_s, self._binding_s = workers, within_s, binding_s
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._sleep = sleep
        self._queue = HintQueue(limit)
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = True

    @property
    def waiting(self) -> int:
        """Hints that no worker has taken yet."""
        return len(self._queue)

    def offer(self, hint: Hint) -> bool:
        """Take a hint, without waiting: False where it was dropped, which is counted."""
        taken = self._open and self._queue.offer(hint)
        if taken:
            self._idle.clear()
        else:
            self._on_outcome(Outcome.DROPPED, 0.0)
        return taken

    async def run(self) -> None:
        """Work until cancelled."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        try:
            await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, drain_s: float) -> None:
        """Take no more. What waits or is under way has `drain_s` seconds; the rest counts as dropped. Idempotent."""
        self._open = False
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            lost = self._queue.clear()
            for _ in range(lost):
                self._on_outcome(Outcome.DROPPED, 0.0)
            if lost:
                log.warning(Event.HANDOVER_LOST, count=lost, reason="the webhook is stopping")
        for task in self._tasks:
            task.cancel()
        await self._agents.close()

    async def _work(self) -> None:
        while True:
            hint = await self._queue.take()
            self._busy += 1
            try:
                await self._handle(hint)
            finally:
                self._busy -= 1
                if not self._busy and not len(self._queue):
                    self._idle.set()

    async def _handle(self, hint: Hint) -> None:
        began = self._monotonic()
        where = log.bind(namespace=hint.namespace, pod=hint.name, node=hint.node)
        outcome = Outcome.FAILED
        try:
            async with asyncio.timeout(self._within_s):
                outcome = await self._hand_over(hint)
        except _Ended as ended:
            outcome = ended.outcome
            if ended.refused:
                where.warning(Event.HANDOVER_LOST, result=outcome, **problem(ended.refused))
        except Refused as refused:
            where.warning(Event.HANDOVER_LOST, result=outcome, **problem(refused))
        except TimeoutError:
            where.warning(Event.HANDOVER_LOST, result=outcome, why=f"not done within {self._within_s:g} s")
        except Exception as failure:  # noqa: BLE001 - one hint must not end a worker
            where.error(Event.HANDOVER_LOST, result=outcome, **problem(failure))
        else:
            where.debug(Event.HANDED_OVER, result=outcome)
        finally:
            self._on_outcome(outcome, self._monotonic() - began)

    async def _hand_over(self, hint: Hint) -> Outcome:
        pod = await self._bound(hint)
        self._on_bound(pod)
        if not injected_interceptor(pod):
            return Outcome.NOT_NEEDED
        node = self._nodes.get(pod.spec.node_name or "")
        if node is None or not node.address:
            why = "the node is not known, or has no InternalIP"
            away = Refused(Code.UNAVAILABLE, "spec.nodeName", why, "its agent asks for what it lacks")
            raise _Ended(Outcome.UNREACHABLE, away)
        try:
            signed = msgspec.json.encode(await self._issuer.issue(pod))
        except Refused as refused:
            raise _Ended(_either(refused, Outcome.FAILED, Outcome.NOT_GIVEN), refused) from None
        try:
            answer = await self._agents.put(node.name, node.address, pod.metadata.uid or "", signed)
        except Refused as refused:
            raise _Ended(_either(refused, Outcome.UNREACHABLE, Outcome.REFUSED), refused) from None
        return Outcome.DELIVERED if answer is Answer.TAKEN else Outcome.KNOWN

    async def _bound(self, hint: Hint) -> Pod:
        """The live pod once the store says on which node it is. Raises _Ended where that comes to nothing."""
        until = self._monotonic() + self._binding_s
        wait = FIRST_LOOK_S
        while True:
            await self._sleep(wait)
            try:
                pod = await self._issuer.live(hint.namespace, hint.name)
            except Refused as refused:
                if refused.code in (Code.NOT_FOUND, Code.INVALID_ARGUMENT):
                    raise _Ended(Outcome.GONE) from None
                raise
            if hint.uid is not None and pod.metadata.uid != hint.uid:
                raise _Ended(Outcome.GONE)
            if not injected_interceptor(pod) and not has_vault_agent(pod):
                raise _Ended(Outcome.NOT_OURS)
            if pod.spec.node_name:
                return pod
            if self._monotonic() >= until:
                raise _Ended(Outcome.NOT_BOUND)
            wait = min(2 * wait, LONGEST_LOOK_S)


def _either(refused: Refused, unavailable: Outcome, otherwise: Outcome) -> Outcome:
    return unavailable if refused.code is Code.UNAVAILABLE else otherwise
