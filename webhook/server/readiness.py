"""Whether this replica should be asked, and what stands against it. In memory only."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from webhook.cluster.view import ClusterView


class Readiness:
    """Ready once everything was listed and there is a certificate, and for as long as it does not drain.

    An API server that is away does not end it: what is known goes on being applied, and `stale` says so.
    """

    def __init__(self, view: ClusterView, has_certificate: Callable[[], bool]) -> None:
        self._view = view
        self._has_certificate = has_certificate
        self.is_draining = False
        """Set when the process has been told to end."""

    @property
    def missing(self) -> list[str]:
        """What stands against it, in words."""
        missing = [f"{name} not listed yet" for name in self._view.unsynced]
        if not self._has_certificate():
            missing.append("no certificate yet")
        if self.is_draining:
            missing.append("draining")
        return missing

    @property
    def is_ready(self) -> bool:
        """Whether nothing is missing."""
        return not self.missing

    def document(self) -> bytes:
        """What `/readyz` says, as JSON."""
        ages = {name: _seconds(one.age_s) for name, one in self._view.reflectors.items()}
        return msgspec.json.encode(
            {"ready": self.is_ready, "missing": self.missing, "stale": self._view.stale, "age_s": ages}
        )


def _seconds(age: float) -> float | None:
    return None if math.isinf(age) else round(age, 1)
