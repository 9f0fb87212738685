"""The registrations that this node holds, and the nonces that it has seen. In memory only, no I/O.

What falls out of it costs latency, never a secret: the agent asks for what it lacks. A restart forgets the nonces too;
whoever could then replay one holds the webhook's certificate, and a registration is a claim that opens nothing alone.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kernelsecret.errors import Code, Refused
from kernelsecret.registration import Registration, SignedRegistration

LIMIT = 1024
"""Registrations held: kubelet runs at most a few hundred pods."""
NONCES = 8 * LIMIT


@dataclass(frozen=True, slots=True)
class Held:
    """A registration and the envelope that it came in, for whoever verifies it again."""

    registration: Registration
    signed: SignedRegistration


class RegistrationBook:
    """Bounded by count; when it is full, the namespace that holds most gives one up, so no namespace pushes others out.

    `now` gives the time with a zone.
    """

    def __init__(self, now: Callable[[], datetime], *, limit: int = LIMIT, nonces: int = NONCES) -> None:
        self._now = now
        self._limit = limit
        self._most_nonces = nonces
        self._held: dict[str, Held] = {}
        self._share: Counter[str] = Counter()
        self._nonces: set[str] = set()
        self._ends: list[tuple[datetime, str]] = []
        self.evicted = 0
        """How many live registrations had to go for others."""

    def __len__(self) -> int:
        return len(self._held)

    def admit(self, held: Held) -> None:
        """Hold a registration that somebody brought. Raises Refused: ALREADY_EXISTS where its nonce was seen before,
        RESOURCE_EXHAUSTED where no more nonces can be remembered (none is forgotten early: that would admit a replay).
        """
        self._end_expired()
        nonce = held.registration.nonce
        if nonce in self._nonces:
            why = "this registration was handed over before"
            raise Refused(Code.ALREADY_EXISTS, "registration.nonce", why, "sign a new one")
        if len(self._nonces) >= self._most_nonces:
            why = f"{self._most_nonces} registrations came within their lifetime, and no more can be told apart"
            raise Refused(Code.RESOURCE_EXHAUSTED, "registration.nonce", why, "wait until some have expired")
        self._nonces.add(nonce)
        heapq.heappush(self._ends, (held.registration.expires_at, nonce))
        self._hold(held)

    def keep(self, held: Held) -> None:
        """Hold a registration that this agent asked for itself: it answers a question, so it is no replay."""
        self._end_expired()
        self._hold(held)

    def get(self, pod_uid: str) -> Held | None:
        """What is held for a pod and has not expired."""
        held = self._held.get(pod_uid)
        if held is not None and held.registration.expires_at <= self._now():
            self.forget(pod_uid)
            return None
        return held

    def forget(self, pod_uid: str) -> None:
        """The pod is gone. Its nonce is still remembered."""
        held = self._held.pop(pod_uid, None)
        if held is not None:
            namespace = held.registration.namespace
            self._share[namespace] -= 1
            if not self._share[namespace]:
                del self._share[namespace]

    def _hold(self, held: Held) -> None:
        registration = held.registration
        self.forget(registration.pod_uid)
        if len(self._held) >= self._limit:
            self._make_room(registration.namespace)
        self._held[registration.pod_uid] = held
        self._share[registration.namespace] += 1

    def _make_room(self, incoming: str) -> None:
        now = self._now()
        expired = [uid for uid, held in self._held.items() if held.registration.expires_at <= now]
        for uid in expired:
            self.forget(uid)
        if expired:
            return
        # The newcomer counts as its namespace's own, so a namespace with the largest share pays for its own growth.
        largest = max(self._share, key=lambda name: (self._share[name] + (name == incoming), name == incoming))
        mine = (held.registration for held in self._held.values() if held.registration.namespace == largest)
        self.forget(min(mine, key=lambda registration: registration.expires_at).pod_uid)
        self.evicted += 1

    def _end_expired(self) -> None:
        now = self._now()
        while self._ends and self._ends[0][0] <= now:
            self._nonces.discard(heapq.heappop(self._ends)[1])
