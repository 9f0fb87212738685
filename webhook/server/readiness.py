"""Whether this replica should be asked, and what stands against it. In memory only."""

from __future__ import annotations

import asyncio
import math

import msgspec

from webhook.cluster.view import ClusterView
from webhook.keeping.keeper import Keeper

_LOOK_S = 0.05


class Readiness:
    """Ready once everything was listed and there is a valid certificate, and for as long as it does not drain.

    An API server that is away does not end it: what is known goes on being applied, and `stale` says so.
    """

    def __init__(self, view: ClusterView, keeper: Keeper) -> None:
        self._view = view
        self._keeper = keeper
        self.is_draining = False
        """Set when the process has been told to end."""

    @property
    def missing(self) -> list[str]:
        """What stands against it, in words."""
        missing = [f"{name}: not listed yet" for name in self._view.unsynced]
        if not self._keeper.is_ready:
            missing += [str(problem) for problem in self._keeper.problems()]
        if self.is_draining:
            missing.append("draining")
        return missing

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    async def wait(self) -> None:
        """Until it is ready."""
        while not self.is_ready:  # noqa: ASYNC110 - time too makes it so: a certificate begins to be valid
            await asyncio.sleep(_LOOK_S)

    def document(self) -> bytes:
        """What `/readyz` says, as JSON."""
        ages = {name: _seconds(one.age_s) for name, one in self._view.reflectors.items()}
        missing = self.missing
        return msgspec.json.encode({"ready": not missing, "missing": missing, "stale": self._view.stale, "age_s": ages})


def _seconds(age: float) -> float | None:
    return None if math.isinf(age) else round(age, 1)
