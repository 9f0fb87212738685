"""What is known of one secret's keys, and when it is a version. Pure: outcomes of reads come in, versions come out.

The rules: a key is replaced only by a whole value; one that becomes empty, too large or unreadable, or is removed,
keeps its last good value, and the problem is told; a folder that is replaced counts only once every known key is in it
again, so that old and new keys are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.sources.keys import MAX_KEYS, Bad, Busy, Missing, Outcome, Value


class Book:
    """The keys of one secret."""

    def __init__(self) -> None:
        self._good: dict[str, bytes] = {}
        self._staged: dict[str, bytes] | None = None
        self._problems: dict[str, str] = {}

    @property
    def known(self) -> frozenset[str]:
        """The keys that have a good value."""
        return frozenset(self._good)

    def heard_of(self, name: str) -> bool:
        """Whether the name has a good value or a problem."""
        return name in self._good or name in self._problems

    def forget(self, name: str) -> None:
        """The name was no key after all."""
        self._good.pop(name, None)
        self._problems.pop(name, None)

    @property
    def values(self) -> Mapping[str, bytes]:
        """A copy of the last good value of each key."""
        return dict(self._good)

    @property
    def problem(self) -> str:
        """What is wrong now, empty where nothing is."""
        told = [f"key {name!a}: {why}" for name, why in sorted(self._problems.items())]
        if self._staged is not None and self._good:
            lacking = sorted(set(self._good) - set(self._staged) - set(self._problems))
            told += [f"key {name!a}: not there since the folder was replaced" for name in lacking]
        return "; ".join(told)

    def replaced(self) -> None:
        """The folder is another one, or was away: hold what comes until it is complete."""
        self._staged = {}
        self._problems = {}

    def apply(self, outcomes: Mapping[str, Outcome]) -> bool:
        """Take in what was read. True where the good values have changed."""
        changed = [self._apply(name, outcome) for name, outcome in outcomes.items()]
        if self._staged is None:
            return any(changed)
        if not self._good.keys() <= self._staged.keys():
            return False
        replaced = self._staged != self._good
        self._good, self._staged = self._staged, None
        return replaced

    def _apply(self, name: str, outcome: Outcome) -> bool:
        match outcome:
            case Value(data=data):
                return self._value(name, data)
            case Missing():
                self._missing(name)
            case Bad(why=why, fix=fix):
                self._problems[name] = f"{why}; {fix}" if fix else why
            case Busy():
                pass
        return False

    def _missing(self, name: str) -> None:
        self._problems.pop(name, None)
        if self._staged is not None:
            self._staged.pop(name, None)
        elif name in self._good:
            self._problems[name] = "removed"

    def _value(self, name: str, data: bytes) -> bool:
        place = self._good if self._staged is None else self._staged
        if not data and self._good.get(name):
            self._problems[name] = "became empty"
            return False
        if name not in place and len(place) >= MAX_KEYS:
            self._problems[name] = f"one more than the {MAX_KEYS} keys that a secret may have"
            return False
        self._problems.pop(name, None)
        changed = place.get(name) != data
        place[name] = data
        return changed
