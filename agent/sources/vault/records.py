"""A secret's leases as a blob for the Safe, so that an agent that is started again goes on with them.

A record is written before credentials are asked for, when they came, and before they are handed on; it is dropped when
the last lease of a secret that nobody wants has ended. What is in it: values, lease ids, times. Pure but for the Safe.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

import msgspec

from agent.model import Safe, SecretRef
from agent.sources.vault.lease_book import Held, LeaseBook
from kernelsecret.errors import Refused

PREFIX = "vault-lease:"
_LAYOUT = 1


class _Held(msgspec.Struct, array_like=True):
    label: str
    lease_id: str
    token: str
    minted_s: float
    renewed_s: float
    ends_s: float
    ttl_s: float
    renewable: bool
    values: dict[str, bytes]
    token_seen_s: float
    token_ends_s: float
    superseded_s: float
    doomed_s: float
    is_stuck: bool
    spread: float

    def __repr__(self) -> str:
        return f"_Held({self.label})"


class _Record(msgspec.Struct, array_like=True):
    layout: int
    source: str
    path: str
    reader: str
    asked_s: float | None
    held: list[_Held]


_DECODER = msgspec.msgpack.Decoder(_Record)
_FIELDS = _Held.__struct_fields__


class Records:
    """The records of all secrets."""

    def __init__(self, safe: Safe) -> None:
        self._safe = safe

    def save(self, ref: SecretRef, book: LeaseBook) -> bool:
        """Store it; without the values where they do not fit, and then they are minted anew after a restart: False.

        Raises Refused where not even the lease ids fit.
        """
        try:
            self._put(ref, book, with_values=True)
        except Refused:
            self._put(ref, book, with_values=False)
            return not any(held.values for held in book.held)
        return True

    def drop(self, ref: SecretRef) -> None:
        """Nothing is held any more. Idempotent."""
        self._safe.drop(name_of(ref))

    def load(self, ref: SecretRef) -> LeaseBook | None:
        """What was held when the last agent ended; None where there was nothing, or another version wrote it."""
        record = self._read(name_of(ref))
        if record is None or (record.source, record.path, record.reader) != (ref.source, ref.path, ref.reader):
            return None
        book = LeaseBook()
        book.asked_s = record.asked_s
        book.held = [Held(**{name: getattr(held, name) for name in _FIELDS}) for held in record.held]
        newest = book.newest
        if newest is not None and not newest.values:  # they did not fit
            newest.superseded_s = newest.renewed_s
        return book

    def refs(self) -> list[SecretRef]:
        """Every secret that has a record."""
        found = (self._read(name) for name in self._safe.names() if name.startswith(PREFIX))
        return [SecretRef(record.source, record.path, record.reader) for record in found if record is not None]

    def _put(self, ref: SecretRef, book: LeaseBook, *, with_values: bool) -> None:
        held = [_Held(*(getattr(one, name) for name in _FIELDS)) for one in book.held]
        for one in held:
            one.values = dict(one.values) if with_values else {}
        record = _Record(_LAYOUT, ref.source, ref.path, ref.reader, book.asked_s, held)
        self._safe.put(name_of(ref), msgspec.msgpack.encode(record))

    def _read(self, name: str) -> _Record | None:
        blob = self._safe.get(name)
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            record = _DECODER.decode(blob) if blob else None
            return record if record and record.layout == _LAYOUT else None
        return None


def name_of(ref: SecretRef) -> str:
    """The record's name: references can be longer than names may be."""
    return PREFIX + hashlib.sha256(str(ref).encode()).hexdigest()
