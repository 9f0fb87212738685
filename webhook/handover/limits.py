"""How often each may ask. Pure but for the clock that it is given."""

from __future__ import annotations

from collections.abc import Callable

from kernelsecret.errors import Code, Refused


class TooOften(Refused):
    """Asked too often; after `wait_s` there is one more."""

    def __init__(self, field: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(Code.RESOURCE_EXHAUSTED, field, "asked too often", f"ask again in {wait_s:.0f} s")


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
        """Count one. Raises TooOften where the name has none left."""
        now = self._monotonic()
        left = self._now_left(name, now)
        if left < 1:
            raise TooOften(f"{self._what} {name}", (1 - left) / self._per_s)
        self._left[name] = (left - 1, now)
        if len(self._left) > self._names:
            self._left = {name: kept for name, kept in self._left.items() if self._now_left(name, now) < self._burst}
            if len(self._left) > self._names:
                self._left.clear()

    def _now_left(self, name: str, now: float) -> float:
        left, at = self._left.get(name, (float(self._burst), now))
        return min(float(self._burst), left + (now - at) * self._per_s)
