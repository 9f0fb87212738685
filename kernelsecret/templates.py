"""Small templates over the keys of one secret: `{{ username }}:{{ password }}`. Pure, and bounded in size and work.

Between `{{` and `}}` stands a key, or `.` for all of them, and filters behind `|`; or a text in double quotes, which
is how a `{{` is written that is none. There is nothing else: no conditions, no loops, no calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from kernelsecret.filters import FILTERS, ShapeError, Work, filtered, fitting, json_object
from kernelsecret.plain import plain_name_problem
from kernelsecret.problems import quoted, shown
from kernelsecret.validation_limits import MAX_FILE_BYTES

MAX_TEMPLATE: Final = 4096
"""Bytes of a template."""
MAX_INSERTS: Final = 64
MAX_FILTERS: Final = 8
"""Filters behind one key."""
ALL: Final = "."
"""Stands for every key; `{{ . | json }}` is an object of them."""
_KEY: Final = re.compile(r'[^\s"{}|]+')
_LITERAL: Final = re.compile(r'"([^"]*)"')
_NAMES_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Insert:
    """A key's value, through filters in order."""

    key: str
    filters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " | ".join((self.key, *self.filters))


Template = tuple[str | Insert, ...]
"""Texts and what stands between them; no two texts follow each other, none is empty."""


@lru_cache(maxsize=1024)
def parse(template: str) -> Template:
    """The parts of a template. Raises ShapeError that says what is wrong with it."""
    if any(0xD800 <= ord(letter) < 0xE000 for letter in template):
        raise ShapeError("has half a character")
    if len(template.encode()) > MAX_TEMPLATE:
        raise ShapeError(f"has more than {MAX_TEMPLATE} bytes")
    parts: list[str | Insert] = []
    rest = template
    while True:
        text, opened, rest = rest.partition("{{")
        _add(parts, text)
        if not opened:
            break
        inner, closed, rest = rest.partition("}}")
        if not closed:
            raise ShapeError(f"'{{{{' before {quoted(inner[:20])} is not closed by '}}}}'")
        _add(parts, _part(inner))
    inserts = sum(isinstance(part, Insert) for part in parts)
    if not inserts:
        raise ShapeError("shows no key; write {{ username }} for the key 'username'")
    if inserts > MAX_INSERTS:
        raise ShapeError(f"shows keys {inserts} times, at most {MAX_INSERTS}")
    return tuple(parts)


def rendered(template: str, values: Mapping[str, bytes], work: Work) -> bytes:
    """The template with the values in it. Raises ShapeError that names the key and the filter."""
    made = bytearray()
    for part in parse(template):
        piece = part.encode() if isinstance(part, str) else _value(part, values, work)
        if len(made) + len(piece) > MAX_FILE_BYTES:
            raise ShapeError(f"makes more than {MAX_FILE_BYTES} bytes")
        made += piece
    return bytes(made)


def value_of(key: str, values: Mapping[str, bytes]) -> bytes:
    """The value of one key. Raises ShapeError that names those that there are."""
    try:
        return values[key]
    except KeyError:
        names = sorted(values)
        found = ", ".join(map(quoted, names[:_NAMES_SHOWN])) + (", ..." if len(names) > _NAMES_SHOWN else "")
        raise ShapeError(f"the secret has no key {quoted(key)}; it has {found or 'none'}") from None


def _value(insert: Insert, values: Mapping[str, bytes], work: Work) -> bytes:
    filters = insert.filters
    try:
        if insert.key == ALL:
            work.spend(sum(map(len, values.values())))
            value, filters = fitting(json_object(values)), filters[1:]
        else:
            value = value_of(insert.key, values)
        work.spend(len(value))
        for name in filters:
            value = filtered(name, value, work)
    except ShapeError as error:
        raise ShapeError(f"{{{{ {shown(str(insert))} }}}}: {error.why}") from None
    return value


def _add(parts: list[str | Insert], part: str | Insert) -> None:
    if isinstance(part, str) and parts and isinstance(parts[-1], str):
        parts[-1] += part
    elif part != "":
        parts.append(part)


def _part(inner: str) -> str | Insert:
    """What stands between the braces."""
    if literal := _LITERAL.fullmatch(inner.strip()):
        return literal[1]
    key, *filters = (piece.strip() for piece in inner.split("|"))
    at = f"{{{{{shown(inner)}}}}}"
    if key != ALL and (not _KEY.fullmatch(key) or plain_name_problem(key)):
        raise ShapeError(f"{at}: {quoted(key)} is not a key; write one name, such as {{{{ username }}}}")
    if len(filters) > MAX_FILTERS:
        raise ShapeError(f"{at}: has {len(filters)} filters, at most {MAX_FILTERS}")
    for name in filters:
        if name not in FILTERS:
            raise ShapeError(f"{at}: no filter {quoted(name)}; there are {', '.join(FILTERS)}")
    if key == ALL and filters[:1] != ["json"]:
        raise ShapeError(f"{at}: '.' is all keys; write {{{{ . | json }}}}")
    return Insert(key, tuple(filters))
