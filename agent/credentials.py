"""The pods' own service-account tokens, as kubelet brought them: in memory only, the newest of each pod.

Whoever puts one in has verified it. A pod's are dropped when its last volume ends. No I/O here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.model import PodRef
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

NONE_AT_HAND = "no live token of a pod of"


def reader_of(pod: PodRef) -> str:
    """Who a pod reads as: `SecretRef.reader`."""
    return f"{pod.namespace}/{pod.service_account}"


@dataclass(frozen=True, slots=True)
class PodToken:
    """A token of one pod for one audience. `ends_s` is in seconds since the epoch."""

    token: str = field(repr=False)
    ends_s: float


class Credentials:
    """Use it on one event loop."""

    def __init__(self, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._clock = wall_clock
        self._pods: dict[str, dict[str, dict[str, PodToken]]] = {}
        """reader -> pod UID -> audience -> token"""
        self._waiting: list[Callable[[str], None]] = []

    def on_put(self, hear: Callable[[str], None]) -> None:
        """Hear of every reader that got a new token."""
        self._waiting.append(hear)

    def put(self, pod: PodRef, tokens: Mapping[str, PodToken]) -> None:
        """The pod's tokens by audience; they take the place of its earlier ones."""
        reader = reader_of(pod)
        held = self._pods.setdefault(reader, {})
        if held.get(pod.uid) == dict(tokens):
            return
        held[pod.uid] = dict(tokens)
        for hear in self._waiting:
            hear(reader)

    def drop(self, pod: PodRef) -> None:
        """The pod has no volume any more. Idempotent."""
        held = self._pods.get(reader_of(pod), {})
        held.pop(pod.uid, None)
        if not held:
            self._pods.pop(reader_of(pod), None)

    def token(self, reader: str, audience: str) -> PodToken:
        """The token of that account that lasts longest. Raises Refused, which never shows one.

        FAILED_PRECONDITION where kubelet brings none for the audience, UNAVAILABLE where all have ended, or the agent
        was restarted and kubelet has not asked again yet (it does so within two minutes).
        """
        pods = self._pods.get(reader, {}).values()
        known = [tokens[audience] for tokens in pods if audience in tokens]
        live = [token for token in known if token.ends_s > self._clock()]
        if live:
            return max(live, key=lambda token: token.ends_s)
        if pods and not known:
            had = ", ".join(sorted({quoted(name) for tokens in pods for name in tokens})) or "none"
            why = f"kubelet brings no service-account token for the audience {quoted(audience)}; it brings {had}"
            fix = f"add {quoted(audience)} to the tokenRequests of the CSIDriver, or name one that is there"
            raise Refused(Code.FAILED_PRECONDITION, "CSIDriver.spec.tokenRequests", why, fix)
        why = f"{NONE_AT_HAND} {reader} is at hand"
        raise Refused(Code.UNAVAILABLE, "serviceAccount.tokens", why, "kubelet brings one within two minutes")
