"""How often each may ask. Pure but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable

from kernelsecret.errors import Code, Refused


class Limiter:
    """`burst` at once and `per_s` a second for each name; names that have not asked for long are forgotten.

    `what` they are is for messages.
    """

    def __init__(
        self, burst: int, per_s: float, monotonic: Callable[[], float], *, names: int = 16_384, what: str = "node"
    ) -> None:
        self._what = what
        self._burst, self._per_s, self._monotonic, self._names = burst, per_s, monotonic, names
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> None:
        """Count one. Raises Refused (RESOURCE_EXHAUSTED) where the name has none left."""
        now = self._monotonic()
        left = self._now_left(name, now)
        if left < 1:
            wait = (1 - left) / self._per_s
            why = "asked too often"
            raise Refused(Code.RESOURCE_EXHAUSTED, f"{self._what} {name}", why, f"ask again in {wait:.0f} s")
        self._left[name] = (left - 1, now)
        if len(self._left) > self._names:
            self._left = {name: kept for name, kept in self._left.items() if self._now_left(name, now) < self._burst}
            if len(self._left) > self._names:
                self._left.clear()

    def _now_left(self, name: str, now: float) -> float:
        left, at = self._left.get(name, (float(self._burst), now))
        return min(float(self._burst), left + (now - at) * self._per_s)
