"""What the demonstration measured, and what of it went wrong. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any

ROTATIONS = 10
LEFT = "left behind: "
"""How the problem begins that something could not be removed."""
THEFTS = {
    "other_pod": "another pod, with this volume mounted into it",
    "entered_shell": "a shell entered from outside (kubectl exec)",
    "orphan": "what such a shell leaves behind: forked twice, adopted by init",
    "spawned_shell": "a shell that the application itself was made to spawn (rule `main`)",
}
"""Who tries to read, by the name in the JSON object."""


@dataclass(slots=True)
class Figures:
    """Filled in as the demonstration goes on; what was not reached stays as it is here."""

    engine: str | None = None
    reason: str = ""
    """Why it is not the kernel that serves."""
    latencies_ms: list[float] = field(default_factory=list)
    publish_ms: float | None = None
    reads: int = 0
    failed_reads: int = 0
    mixed_reads: int = 0
    restarts: int = 0
    agent_killed: bool = False
    back_ms: float | None = None
    reads_without_agent: int = 0
    refused: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(THEFTS, False))
    problems: list[str] = field(default_factory=list)
    """What went wrong on the way, in sentences."""

    @property
    def p50_ms(self) -> float | None:
        """Median from the write of the source to the reader's first new byte."""
        return round(median(self.latencies_ms), 3) if self.latencies_ms else None

    @property
    def p99_ms(self) -> float | None:
        """By nearest rank: of ten rotations it is the slowest."""
        if not self.latencies_ms:
            return None
        ordered = sorted(self.latencies_ms)
        return round(ordered[math.ceil(0.99 * len(ordered)) - 1], 3)

    def as_object(self) -> dict[str, Any]:
        """The one object of `--output json`."""
        return {
            "engine": self.engine,
            "rotations": len(self.latencies_ms),
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "reads": self.reads,
            "failed_reads": self.failed_reads,
            "restarts": self.restarts,
            "agent_killed": self.agent_killed,
            "refused": dict(self.refused),
        }

    def wrong(self) -> list[str]:
        """Everything that is not as it must be. Without BPF nobody is refused, which is said and is not wrong."""
        found = list(self.problems)
        if len(self.latencies_ms) < ROTATIONS and not found:
            found.append(f"only {len(self.latencies_ms)} of {ROTATIONS} rotations were seen")
        if self.failed_reads:
            found.append(f"{self.failed_reads} reads of the programs failed")
        if self.mixed_reads:
            found.append(f"{self.mixed_reads} pairs of user name and password were of two versions")
        if self.restarts:
            found.append(f"{self.restarts} programs had to be restarted")
        if self.engine == "iter" and not self.problems:
            found += [f"not refused: {who}" for name, who in THEFTS.items() if not self.refused[name]]
        return found
