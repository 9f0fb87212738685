"""What is wrong with an object that somebody wrote: the field, why, and what would mend it. No I/O here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `field` is the path as written, such as `spec.secrets[0].files[1].path`."""

    field: str
    why: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.why}" + (f"; {self.fix}" if self.fix else "")


class Invalid(ValueError):
    """An object that cannot be used. `problems` has at least one entry, in the order of the object's fields."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" | ".join(str(problem) for problem in self.problems))


def from_decoder(text: str) -> Problem:
    """The problem that msgspec found, in our words and with the field's full path."""
    matched = _AT.match(text)
    assert matched is not None
    what, path = matched["what"], matched["path"] or ""
    if unknown := _UNKNOWN.match(what):
        return Problem(join(path, shown(unknown["name"])), "no such field", "look for a typing error")
    if missing := _MISSING.match(what):
        return Problem(join(path, missing["name"]), "missing")
    return Problem(path or "(the whole object)", (what[:1].lower() + what[1:]).replace("`", ""))


def join(path: str, name: str) -> str:
    """`path.name`, or `name` at the top."""
    return f"{path}.{name}" if path else name


def shown(text: str, longest: int = 80) -> str:
    """Text that somebody wrote, fit for one line of a message: printable ASCII and short."""
    plain = text if len(text) <= longest else text[: longest - 3] + "..."
    return ascii(str(plain))[1:-1]  # an enum that is text too shows its value


def quoted(text: str) -> str:
    """As `shown`, in quotes."""
    return f"'{shown(text)}'"
