"""Whether this replica should be asked, and what stands against it. In memory only."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from kernelsecret.errors import Refused

_LOOK_S = 0.05


class Known(Protocol):
    """What is asked of the view of the cluster."""

    @property
    def unsynced(self) -> Sequence[str]:
        """Collections that were not listed yet."""

    @property
    def stale(self) -> Sequence[str]:
        """Collections that nothing was heard of for a while."""

    @property
    def ages_s(self) -> Mapping[str, float]:
        """How old each collection may be, in seconds; infinite before it was listed."""


class Keys(Protocol):
    """What is asked of the keeper of the keys."""

    @property
    def is_ready(self) -> bool:
        """There is a valid certificate."""

    def problems(self) -> Sequence[Refused]:
        """What stands against it."""


class Readiness:
    """Ready once everything was listed and there is a valid certificate, and for as long as it does not drain.

    An API server that is away does not end it: what is known goes on being applied, and `stale` says so.
    """

    def __init__(self, known: Known, keys: Keys) -> None:
        self._known = known
        self._keys = keys
        self.is_draining = False
        """Set when the process has been told to end."""

    @property
    def missing(self) -> list[str]:
        """What stands against it, in words."""
        missing = [f"{name}: not listed yet" for name in self._known.unsynced]
        if not self._keys.is_ready:
            missing += [str(problem) for problem in self._keys.problems()]
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
        ages = {name: _seconds(age) for name, age in self._known.ages_s.items()}
        missing = self.missing
        return msgspec.json.encode(
            {"ready": not missing, "missing": missing, "stale": self._known.stale, "age_s": ages}
        )


def _seconds(age: float) -> float | None:
    return None if math.isinf(age) else round(age, 1)
