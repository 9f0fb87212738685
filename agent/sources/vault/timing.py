"""When a secret is looked at next. Pure: what is known of it comes in, and a time of the loop's clock comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.model import SecretRef
from agent.sources.vault.watched import Watched

LOOK_S: Final = 0.1
"""Between two looks at one secret, however often somebody says that it has changed."""
_SHORTEST_S, _FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 1.0, 4.5
_LOOK_AGAIN_S = 10.0
"""A longer pace is asked for again after this: it may have been made shorter meanwhile."""
_LONGEST_S = 3600.0
_JITTER = 0.05


@dataclass(frozen=True, slots=True)
class Timing:
    """`pace` gives seconds between two looks, `chance` 0 to 1; `wall_clock` is what leases' times are in."""

    pace: Callable[[SecretRef], float]
    linger_s: float
    wall_clock: Callable[[], float]
    chance: Callable[[], float]

    def pace_of(self, ref: SecretRef) -> float:
        """Seconds between two looks."""
        return max(_SHORTEST_S, self.pace(ref))

    def due(self, watched: Watched, now: float) -> float | None:
        """When it is looked after next; None where it never need be."""
        times = []
        if watched.is_idle and not watched.ended:
            times.append(watched.idle_s + self.linger_s)
        if watched.leases is not None:
            due_s = watched.leases.due_s()
            if due_s is not None:
                times.append(now + min(max(due_s - self.wall_clock(), 0.0), _LONGEST_S))
        elif watched.subscriptions:
            times.append(self._next_look(watched, now))
        if watched.nudged:
            times.append(watched.looked_s + LOOK_S)
        return min(times, default=None)

    def has_lingered(self, watched: Watched, now: float) -> bool:
        """Whether nobody has wanted it for long enough."""
        return watched.is_idle and not watched.ended and now >= watched.idle_s + self.linger_s

    def is_early(self, watched: Watched, now: float) -> bool:
        """Whether it came up only because its pace might have been made shorter, and it was not."""
        if watched.leases is not None or watched.nudged or watched.waiting or watched.retry_s is not None:
            return False
        pace = self.pace_of(watched.asked.ref)
        return pace > _LOOK_AGAIN_S and watched.looked_s + pace > now

    def _next_look(self, watched: Watched, now: float) -> float:
        pace = self.pace_of(watched.asked.ref)
        if watched.looked_s < 0:  # never: not all at once after a start
            return now + self.chance() * min(1.0, pace)
        if watched.retry_s is not None:
            pace = min(max(pace, _FIRST_RETRY_S, watched.retry_s), _LONGEST_RETRY_S)
        elif pace > _LOOK_AGAIN_S:
            left_s = max(watched.looked_s + pace - now, 0.0)
            return now + min(left_s, _LOOK_AGAIN_S)
        return watched.looked_s + pace * (1 + _JITTER * (2 * self.chance() - 1))
