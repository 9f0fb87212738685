"""What the tables of the CRD are written in: fields, rules in CEL, and those that come more than once. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kernelsecret.validation_limits import MAX_COUNT


@dataclass(frozen=True, slots=True)
class Rule:
    """One of `x-kubernetes-validations`: `cel` must hold, or `message` is shown behind the field's path."""

    cel: str
    message: str
    at: str = ""
    """A field below, such as `.binaries`, that the message is about."""

    def wire(self) -> dict[str, str]:
        """As the CRD writes it."""
        return {"rule": self.cel, "message": self.message} | ({"fieldPath": self.at} if self.at else {})


@dataclass(frozen=True, slots=True)
class Field:
    """`text` for `kubectl explain`, more of the field's schema, and the rules of its value and of its list's items."""

    text: str
    schema: Mapping[str, Any] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    items: Mapping[str, Any] = field(default_factory=dict)
    item_rules: tuple[Rule, ...] = ()


def interval(least: str) -> tuple[Rule, ...]:
    """A duration from `least` to a day."""
    message = f"needs a duration from {least} to 24h, written with ms, s, m or h, such as 500ms, 1s or 1m30s"
    cel = (
        "self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')"
        f" && duration(self) >= duration('{least}') && duration(self) <= duration('24h')"
    )
    return (Rule(cel, message),)


def byte_count(text: str, most: int) -> Field:
    """A number of bytes, or a quantity."""
    message = f"needs a number of bytes from 1 to {most}, such as 65536, 64Ki or 1Mi"
    cel = (
        f"type(self) == int ? self >= 1 && self <= {most} : self.matches('^[0-9]{{1,15}}(Ki|Mi|Gi|k|M|G)?$')"
        f" && quantity(self).compareTo(quantity('1')) >= 0 && quantity(self).compareTo(quantity('{most}')) <= 0"
    )
    return Field(text, rules=(Rule(cel, message),))


def count(text: str, most: int = MAX_COUNT) -> Field:
    """A number from 1."""
    return Field(text, {"minimum": 1, "maximum": most})


def bounds(whose: str) -> dict[str, Field]:
    """Upper bounds for all volumes of something."""
    return {
        "bytes": byte_count(f"Bytes of {whose}; a value counts for every volume that shows it.", 1 << 40),
        "files": count(f"Files of {whose}."),
        "volumes": count(f"Volumes of {whose}."),
    }


NO_CONTROL: Final = Rule(r"!self.matches('[\x00-\x1f\x7f]')", "has a control character; leave it out")
PLAIN_NAME: Final = (
    Rule("!self.contains('/')", "has a '/'; write one name, not a path"),
    Rule("self != '.' && !self.startsWith('..')", "is '.' or starts with '..'; choose another name"),
    NO_CONTROL,
)
PROGRAM_CEL: Final = "self.matches('^(/[^/]+)+$') && !self.matches('/[.][.]?(/|$)')"
"""The absolute path of a program."""
