"""What the node holds of a pod, or what the webhook says when it is asked with the node's own identity.

Asked for once however many want it, for a short time only; a webhook that does not answer is left alone for a while.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from agent.model import PodRef
from agent.registrations.book import Held, RegistrationBook
from agent.registrations.contexts import NodeContexts
from agent.registrations.webhook_door import Cut, WebhookDoor
from certs.signing import open_registration
from kernelsecret.errors import Code, Refused
from kernelsecret.node_api import PATH_REGISTRATIONS, RegistrationRequest
from kernelsecret.problems import quoted
from kernelsecret.registration import Registration, SignedRegistration
from kernelsecret.trust import RegistrationKey

WITHIN_S = 2.0
FIRST_REST_S = 0.5
LONGEST_REST_S = 15.0
AT_ONCE = 16

_signed = msgspec.json.Decoder(SignedRegistration)


class Registrations:
    """The registrations of this node's pods. `now` gives the time with a zone, `monotonic` seconds."""

    def __init__(
        self,
        node: str,
        book: RegistrationBook,
        door: WebhookDoor,
        contexts: NodeContexts,
        keys: Callable[[], Sequence[RegistrationKey]],
        now: Callable[[], datetime],
        *,
        within_s: float = WITHIN_S,
        monotonic: Callable[[], float] | None = None,
        chance: Callable[[], float] = random.random,
        on_asked: Callable[[str], None] = lambda outcome: None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_asked` hears `ok` or the refusal's code; `on_cut` that the webhook may not take our certificate."""
        self._node, self._book, self._door, self._contexts = node, book, door, contexts
        self._keys, self._now, self._within_s, self._chance = keys, now, within_s, chance
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._on_asked, self._on_cut = on_asked, on_cut
        self._asking: dict[str, asyncio.Task[Registration]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._failures = 0
        self._rests_until = 0.0
        self._last = ""

    async def registration(self, pod: PodRef) -> Registration:
        """What admission says of the pod. Raises Refused: what the webhook refused, or UNAVAILABLE where it cannot be
        asked now; the caller's own caller tries again.
        """
        held = self._book.get(pod.uid)
        if held is not None:
            return held.registration
        asking = self._asking.get(pod.uid)
        if asking is None:
            asking = asyncio.create_task(self._ask(pod))
            self._asking[pod.uid] = asking
            asking.add_done_callback(lambda task: self._asked(pod.uid, task))
        return await asyncio.shield(asking)

    async def close(self) -> None:
        """Ask no more. Idempotent."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _asked(self, uid: str, task: asyncio.Task[Registration]) -> None:
        self._asking.pop(uid, None)
        if task.cancelled():
            return
        error = task.exception()  # looked at, or asyncio would complain where nobody waits any more
        self._on_asked("ok" if error is None else error.code.value if isinstance(error, Refused) else "INTERNAL")

    async def _ask(self, pod: PodRef) -> Registration:
        left = self._rests_until - self._monotonic()
        if left > 0:
            why = f"did not answer a moment ago ({self._last}) and is asked again in {left:.1f} s"
            raise _away(why)
        try:
            async with asyncio.timeout(self._within_s):
                async with self._slots:
                    held = await self._answer(pod)
        except TimeoutError:
            raise self._rest(_away(f"did not answer within {self._within_s:g} s")) from None
        except Refused as refused:
            if refused.code is Code.UNAVAILABLE or refused.code is Code.RESOURCE_EXHAUSTED:
                raise self._rest(refused) from None
            self._failures = 0
            raise
        self._failures = 0
        self._book.keep(held)
        return held.registration

    async def _answer(self, pod: PodRef) -> Held:
        body = msgspec.json.encode(RegistrationRequest(pod_uid=pod.uid, namespace=pod.namespace, name=pod.name))
        answer = await self._door.post(PATH_REGISTRATIONS, body, self._contexts.client())
        try:
            signed = _signed.decode(answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise _away("answered with something else than a registration") from None
        registration = open_registration(signed, self._keys(), self._now())
        told = (registration.pod_uid, registration.namespace, registration.name, registration.node)
        if told != (pod.uid, pod.namespace, pod.name, self._node):
            why = (
                f"is for the pod {quoted(registration.pod_uid)} on {quoted(registration.node)}, which was not asked for"
            )
            raise Refused(Code.PERMISSION_DENIED, "registration", why)
        return Held(registration, signed)

    def _rest(self, refused: Refused) -> Refused:
        """The webhook is not asked for a while, longer each time."""
        self._last = refused.why
        rest = min(FIRST_REST_S * 2**self._failures, LONGEST_REST_S) * (0.5 + self._chance())
        self._failures = min(self._failures + 1, 16)
        self._rests_until = self._monotonic() + rest
        if isinstance(refused, Cut):
            self._on_cut()
        return refused


def _away(why: str) -> Refused:
    fix = "see whether the webhook runs; the pod's volume is tried again by itself"
    return Refused(Code.UNAVAILABLE, "webhook", why, fix)
