"""Secrets that a publish to come is expected to show: held for a short time, and so many bytes at most. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.model import SecretRef, SecretVersion

MOST = 64
"""Secrets held ahead at a time."""
MOST_BYTES = 16 << 20
"""Bytes of values held ahead; a secret that does not fit is only watched."""


@dataclass(slots=True)
class _Held:
    until: float
    version: SecretVersion | None = None
    bytes_: int = 0


class Ahead:
    """What is expected. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[SecretRef, _Held] = {}

    def admit(self, refs: Iterable[SecretRef], for_s: float) -> list[SecretRef]:
        """Expect these for so long from now on; which of them there is room for, in order."""
        self.forget_old()
        until = self._clock() + for_s
        taken = []
        for ref in sorted(refs):
            held = self._held.get(ref)
            if held is not None:
                held.until = max(held.until, until)
            elif len(self._held) < MOST:
                self._held[ref] = _Held(until)
            else:
                continue
            taken.append(ref)
        return taken

    def forget_old(self) -> None:
        """Expect no more what was expected for long enough; its values go."""
        now = self._clock()
        self._held = {ref: held for ref, held in self._held.items() if held.until > now}

    def refs(self) -> set[SecretRef]:
        """What is expected now."""
        self.forget_old()
        return set(self._held)

    def put(self, version: SecretVersion) -> None:
        """A version was read: it takes the place of an earlier one, where its secret is expected."""
        held = self._held.get(version.ref)
        if held is None:
            return
        size = sum(map(len, version.values.values()))
        others = sum(one.bytes_ for one in self._held.values()) - held.bytes_
        fits = others + size <= MOST_BYTES
        held.version, held.bytes_ = (version, size) if fits else (None, 0)

    def drop(self, ref: SecretRef) -> None:
        """Its source cannot be read: whoever asks is to hear that."""
        held = self._held.get(ref)
        if held is not None:
            held.version, held.bytes_ = None, 0

    def get(self, ref: SecretRef) -> SecretVersion | None:
        """The version that is held, as its source last told it."""
        held = self._held.get(ref)
        return held.version if held is not None and held.until > self._clock() else None
