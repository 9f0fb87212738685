"""How often a source is asked for a secret: as often as the most impatient volume that shows it, never below the
floor. No I/O here.
"""

from __future__ import annotations

from agent.delivery.volumes import Volumes
from agent.model import SecretRef

UNSHOWN_S = 1.0
"""For a secret that no volume shows yet."""


class Pace:
    """Seconds between two looks at a secret, by what its volumes say now."""

    def __init__(self, volumes: Volumes, floor_s: float) -> None:
        self._volumes, self._floor_s = volumes, floor_s

    def __call__(self, ref: SecretRef) -> float:
        """The least `poll_s` of the volumes that show the secret and have a right to it."""
        asked = min((state.plan.poll_s for state in self._volumes.following(ref)), default=UNSHOWN_S)
        return max(asked, self._floor_s)
