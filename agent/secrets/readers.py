"""Who has read which version of a secret: the generations that the kernel noted, with the sources' names of versions.

No I/O: what is shown, and what was read of it, is asked for by a function. It answers two questions. Of people: which
pods still go by an old value? Of sources: which version does every reader have, so that what earlier ones held (a
lease) may end? The second errs only by letting an old one live longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from math import inf

from agent.model import FilePlan, FileRead, PodRef, SecretRef, VolumePlan
from kernelsecret.interceptor import Mode

MOST_LABELS = 64
"""Generations of one secret whose labels are remembered; who has an older one than these is shown without a label."""

Reads = Callable[[SecretRef], Iterable[tuple[VolumePlan, FilePlan, FileRead]]]


class Standing(Enum):
    """How a file's readers stand to the version that is shown now."""

    CURRENT = "current"
    """Who read it last has it, or an earlier one with the same bytes."""
    BEHIND = "behind"
    """Who read it last has an older one, or the volume shows an older one because its right has ended."""
    UNREAD = "unread"
    """Nobody has read it as a whole: nobody holds any version of it."""
    UNKNOWN = "unknown"
    """The engine sees no reads."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One file of one pod's volume. `label` is the source's name of the version last read; empty where it is not known
    (nobody read it, or it is older than what this agent has seen)."""

    volume_id: str
    pod: PodRef
    file: str
    label: str
    standing: Standing
    mode: Mode = Mode.EBPF


@dataclass(frozen=True, slots=True)
class _Shown:
    """A generation: the source's name of the version, and since when it is shown (seconds of the book's clock)."""

    label: str
    since_s: float


class ReadBook:
    """The labels of generations, and the join. `reads` tells of every file that shows a secret (`Volumes.reads`).

    In memory only: an agent that starts learns the label of what is current anew, and those of earlier generations
    only where it saw them.
    """

    def __init__(self, reads: Reads, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads, self._clock = reads, clock
        self._shown: dict[SecretRef, dict[int, _Shown]] = {}

    def learn(self, ref: SecretRef, generation: int, label: str) -> None:
        """The version of this label is what `generation` shows (`Volumes.generation`), also where it is a later one
        with the same bytes. Call it of each version that was shown, changed or not. Where no engine counts versions
        (generation 0), each label that differs from the last is the next."""
        shown = self._shown.setdefault(ref, {})
        newest = max(shown, default=0)
        if not generation:
            generation = newest if newest and shown[newest].label == label else newest + 1
        if generation < newest:
            shown.clear()  # the last volume that followed the secret had ended, and the engine counts anew
        before = shown.get(generation)
        shown[generation] = _Shown(label, before.since_s if before else self._clock())
        while len(shown) > MOST_LABELS:
            del shown[min(shown)]

    def forget(self, ref: SecretRef) -> None:
        """No volume shows the secret any more: its generations begin anew if one does again. Idempotent."""
        self._shown.pop(ref, None)

    def label(self, ref: SecretRef, generation: int) -> str:
        """The source's name of what a generation shows; empty where it is not known."""
        shown = self._shown.get(ref, {}).get(generation)
        return shown.label if shown else ""

    def readers(self, ref: SecretRef) -> list[Reader]:
        """Every file that shows the secret, by volume and name."""
        found = [
            Reader(plan.volume_id, plan.pod, file.name, self.label(ref, _had(read)), standing(read), plan.mode)
            for plan, file, read in self._reads(ref)
        ]
        return sorted(found, key=lambda reader: (reader.volume_id, reader.file))

    def behind(self, ref: SecretRef) -> list[Reader]:
        """Those that do not have the current version, or are not known to: what `everyone_has` waits for."""
        return [reader for reader in self.readers(ref) if reader.standing in (Standing.BEHIND, Standing.UNKNOWN)]

    def everyone_has(self, ref: SecretRef, patience_s: float = inf) -> str | None:
        """The label of the newest version that every reader has or has passed, so that no earlier one is in use, nor
        can be read any more; often not yet the current one. None where that cannot be told, for example because a
        volume is on tmpfs. After a flip it stays with the earlier version for as long as reads that began before it may
        end (2 s).

        A version that has been shown for `patience_s` counts as everyone's: who has not read it by then is not waited
        for, however often the secret has rotated since.
        """
        reads, shown = [read for _, _, read in self._reads(ref)], self._shown.get(ref, {})
        if not reads:
            return None
        now = self._clock()
        waited = max((generation for generation, one in shown.items() if now - one.since_s >= patience_s), default=0)
        oldest = max(waited, min(map(oldest_in_use, reads)))
        passed = max((generation for generation in shown if generation <= oldest), default=0)
        # A value that came back may have the name that it had before: it must not be taken for the later one.
        later = {one.label for generation, one in shown.items() if generation > oldest}
        return shown[passed].label if passed and shown[passed].label not in later else None


def standing(read: FileRead) -> Standing:
    """How the readers of one file stand."""
    if not read.current:
        return Standing.UNKNOWN
    if _had(read) == read.current:
        return Standing.CURRENT
    # One that follows shows the current version, but for a moment after the flip.
    shows_old = not read.follows and _as_current(read, read.oldest) < read.current
    return Standing.BEHIND if read.read or shows_old else Standing.UNREAD


def oldest_in_use(read: FileRead) -> int:
    """The oldest generation that a reader of the file has, or can still get; 0 where it is not known."""
    if not read.current:
        return 0
    can_get = _as_current(read, read.oldest)
    return min(can_get, _had(read)) if read.read else can_get


def _had(read: FileRead) -> int:
    """The generation that was read last, 0 for none."""
    return _as_current(read, read.read)


def _as_current(read: FileRead, generation: int) -> int:
    """Who has a generation with the bytes of the current one has the current one."""
    return read.current if generation >= read.since else generation
