"""Listens to the demonstration's programs: what they saw, when by their own clock, and how often they have read."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from kernelsecret.cli.simulation.pod import Container

PATIENCE_S = 15.0


class Silent(Exception):
    """A program did not come to see, or to do, what was waited for. The text says which and what."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a program has counted itself. `mixed`: pairs of files that were of two versions."""

    reads: int = 0
    failed: int = 0
    mixed: int = 0


class Reader:
    """A program in a container that prints a JSON line for each new value, and now and then its counts."""

    def __init__(self, name: str, container: Container) -> None:
        self.name = name
        self.container = container
        self._seen: dict[str, int] = {}
        self._counts = Counts()
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def counts(self) -> Counts:
        """As last told."""
        return self._counts

    @property
    def lives(self) -> bool:
        """It is the very process that was started."""
        return self.container.process.poll() is None

    def wait_for(self, user: str) -> int:
        """Wait until it has seen this user; when it did (CLOCK_MONOTONIC ns, 0 where its clock is unknown).

        Raises Silent.
        """
        self._wait(lambda: user in self._seen, f"has not seen {user}")
        return self._seen[user]

    def wait_for_reads(self, more: int) -> None:
        """Wait until it has read `more` times from now on. Raises Silent."""
        goal = self._counts.reads + more
        self._wait(lambda: self._counts.reads >= goal, f"has not read {more} times more")

    def _wait(self, condition: Any, what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, until - time.monotonic())
        if not condition():
            why = "it has ended" if self._ended else f"in {PATIENCE_S:.0f} s"
            raise Silent(f"the {self.name} program {what} ({why})")

    def _listen(self) -> None:
        for line in self.container.process.stdout:
            said = json.loads(line)
            with self._changed:
                self._counts = Counts(said["reads"], said["failed"], said.get("mixed", 0))
                if said["new"]:
                    self._seen.setdefault(said["user"], said.get("at", 0))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
