"""Who has read which version of a secret: the generations that the kernel noted, with the sources' names of versions.

Pure: what is shown, and what was read of it, is asked for by a function. It answers two questions. Of people: which
pods still go by an old value? Of sources: which version does every reader have, so that what earlier ones held (a
lease) may end? The second errs only by letting an old one live longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from agent.model import FilePlan, FileRead, PodRef, SecretRef, VolumePlan

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


class ReadBook:
    """The labels of generations, and the join. `reads` tells of every file that shows a secret (`Volumes.reads`).

    In memory only: an agent that starts learns the label of what is current anew, and those of earlier generations
    only where it saw them.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._labels: dict[SecretRef, dict[int, str]] = {}

    def learn(self, ref: SecretRef, generation: int, label: str) -> None:
        """The version of this label is what `generation` shows (`Volumes.generation`), also where it is a later one
        with the same bytes. Call it of each version that was shown, changed or not. Generation 0 is nobody's."""
        if not generation:
            return
        labels = self._labels.setdefault(ref, {})
        labels[generation] = label
        while len(labels) > MOST_LABELS:
            del labels[min(labels)]

    def forget(self, ref: SecretRef) -> None:
        """No volume shows the secret any more: its generations begin anew if one does again. Idempotent."""
        self._labels.pop(ref, None)

    def label(self, ref: SecretRef, generation: int) -> str:
        """The source's name of what a generation shows; empty where it is not known."""
        return self._labels.get(ref, {}).get(generation, "")

    def readers(self, ref: SecretRef) -> list[Reader]:
        """Every file that shows the secret, by volume and name."""
        found = [
            Reader(plan.volume_id, plan.pod, file.name, self.label(ref, _had(read)), standing(read))
            for plan, file, read in self._reads(ref)
        ]
        return sorted(found, key=lambda reader: (reader.volume_id, reader.file))

    def behind(self, ref: SecretRef) -> list[Reader]:
        """Those that do not have the current version, or are not known to: what `everyone_has` waits for."""
        return [reader for reader in self.readers(ref) if reader.standing in (Standing.BEHIND, Standing.UNKNOWN)]

    def everyone_has(self, ref: SecretRef) -> str | None:
        """The label of the newest version that every reader has or has passed, so that no earlier one is in use, nor
        can be read any more. None where that cannot be told, for example because a volume is on tmpfs.

        After a flip it stays with the earlier version for as long as reads that began before it may end (2 s).
        """
        reads = [read for _, _, read in self._reads(ref)]
        if not reads:
            return None
        oldest, labels = min(map(oldest_in_use, reads)), self._labels.get(ref, {})
        passed = max((generation for generation in labels if generation <= oldest), default=0)
        # A value that came back may have the name that it had before: it must not be taken for the later one.
        later = {label for generation, label in labels.items() if generation > oldest}
        return labels[passed] if passed and labels[passed] not in later else None


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
