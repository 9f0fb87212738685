"""How long to wait before the next attempt: longer each time, never the same for two replicas. Pure but for chance."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Doubles from `first_s` to `longest_s`; each wait is between a half and the whole of that."""

    def __init__(
        self, first_s: float = 0.5, longest_s: float = 30.0, chance: Callable[[], float] = random.random
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self.attempt = 0
        """Waits since the last success."""

    def reset(self) -> None:
        """What was tried has worked."""
        self.attempt = 0

    def next_s(self, asked_s: float | None = None) -> float:
        """Seconds to wait now; `asked_s` is what the server asked for (Retry-After), which is never undercut."""
        whole = min(self._longest_s, self._first_s * 2.0 ** min(self.attempt, 32))
        self.attempt += 1
        wait = whole * (0.5 + self._chance() / 2)
        return wait if asked_s is None else max(wait, asked_s * (1 + self._chance() / 4))
