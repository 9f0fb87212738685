"""What admission did, as typed records: the only things that its audit trail can show. No I/O here.

No field can hold a secret's value on purpose: names, rules and our own words about them. What others wrote is escaped
and cut.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from telemetry.text import clean, rfc3339


class Reviewed(NamedTuple):
    """One injection, or one refusal: `event` is `injected` or `refused`. `time_ns` is CLOCK_REALTIME.

    `uid` is the review's, as the API server's own audit log has it; `user` is who asked the API server.
    """

    event: str
    time_ns: int
    door: str
    uid: str
    operation: str
    resource: str
    namespace: str
    name: str
    dry_run: bool
    interceptor: str = ""
    mode: str = ""
    containers: str = ""
    rule: str = ""
    why: str = ""
    user: str = ""


class Pushed(NamedTuple):
    """A push, taken or refused: `outcome` says which, `sender` is a claim where the signature was not proven.

    `times` is how many it stands for: the first of its kind is told at once, more of them are summed up.
    """

    event: str
    time_ns: int
    outcome: str
    sender: str
    address: str
    secrets: str
    why: str
    times: int


Record = Reviewed | Pushed

_WHY_CHARACTERS = 1024
_CHARACTERS = 512
_encode = msgspec.json.Encoder().encode


def to_line(record: Record) -> bytes:
    """One JSON line, newline included, without what is empty. Raises TypeError for anything but the declared types."""
    line: dict[str, str | int] = {"time": rfc3339(record.time_ns)}
    for name, value in zip(record._fields, record, strict=True):
        if name == "time_ns" or value == "":
            continue
        if isinstance(value, str):
            line[name] = clean(value, _WHY_CHARACTERS if name == "why" else _CHARACTERS)
        elif isinstance(value, int):  # a bool too
            line[name] = value
        else:
            raise TypeError(f"{name}: a record has no such type of field")
    return _encode(line) + b"\n"
