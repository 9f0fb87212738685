"""The pure parts: what is due when, what a record holds, how values are made of JSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from math import inf

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import SecretRef
from agent.safe import MemorySafe
from agent.sources.vault.agenda import Agenda
from agent.sources.vault.flatten import Fit, essence, values_of
from agent.sources.vault.kv import Metadata, Version, path_on, stamp_of_metadata
from agent.sources.vault.lease_book import GRACE_S, LONGEST_OLD_S, Do, Held, LeaseBook
from agent.sources.vault.news import Labels
from agent.sources.vault.records import Records, name_of
from kernelsecret.errors import Refused

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REF = SecretRef("vault", "database/creds/" + "x" * 400, "shop/web")


def held(number: int = 1, *, at: float = 0.0, ttl: float = 60.0, renewable: bool = True) -> Held:
    return Held(
        label=f"lease {number}",
        lease_id=f"database/creds/app/{number}",
        token="t",
        minted_s=at,
        renewed_s=at,
        ends_s=at + ttl,
        ttl_s=ttl,
        renewable=renewable,
        values={"password": b"secret"},
    )


def book_of(*leases: Held) -> LeaseBook:
    book = LeaseBook()
    for lease in leases:
        book.minted(lease)
    return book


def step(book: LeaseBook, now: float) -> tuple[Do, float]:
    found = book.next_step(now)
    assert found is not None
    return found.do, found.at_s


# The lease book


def test_a_lease_is_renewed_after_two_thirds_and_replaced_when_a_third_is_left_of_what_it_was_given() -> None:
    lease = held()
    book = book_of(lease)
    assert step(book, 0) == (Do.RENEW, 40)
    book.renewed(lease, 40, 60, True)
    assert step(book, 40) == (Do.RENEW, 80)
    book.renewed(lease, 80, 25, True)  # max_ttl is near
    assert step(book, 80) == (Do.MINT, 85)
    book.renewed(lease, 80, 5, True)
    assert step(book, 80) == (Do.MINT, 65)  # at once


def test_a_second_that_vault_rounds_away_is_no_cap() -> None:
    for ttl in (2, 3, 5, 60):
        lease = held(ttl=ttl)
        book = book_of(lease)
        book.renewed(lease, 1, ttl - 1 if ttl > 2 else ttl, True)
        assert step(book, 1)[0] is Do.RENEW


def test_a_replaced_token_means_new_credentials_at_once_and_the_old_live_on_as_long_as_they_can() -> None:
    book = book_of(held())
    book.token_replaced("another", 100)
    assert step(book, 10) == (Do.MINT, 0)
    book.minted(held(2, at=10))
    book.held[-1].token = "another"
    assert step(book, 10) == (Do.RENEW, 40)
    assert book.held[0].last_s == 60
    book.renewed(book.held[0], 40, 60, True)
    assert book.held[0].last_s == 100


def test_old_leases_end_by_the_word_that_all_have_read_or_a_day_later() -> None:
    book = book_of(held(1), held(2, at=10), held(3, at=20))
    assert not book.all_read("lease 1", 30)
    assert not book.all_read("lease 9", 30)
    assert book.all_read("lease 2", 30)
    assert not book.all_read("lease 2", 31)
    assert step(book, 30) == (Do.REVOKE, 30 + GRACE_S)
    assert [lease.doomed_s for lease in book.held] == [30 + GRACE_S, inf, inf]
    for lease in book.held:
        lease.ends_s = lease.renewed_s + 10**9
    book.ended(book.held[0])
    assert (Do.REVOKE, 20 + LONGEST_OLD_S) in [(one.do, one.at_s) for one in book._steps(book.held[0], 0)]


def test_what_is_not_wanted_is_revoked_all_of_it_and_what_cannot_be_is_let_go() -> None:
    book = book_of(held(1), held(2, at=10))
    book.wanted = False
    while book.held:
        found = book.next_step(20)
        assert found is not None
        assert (found.do, found.at_s) == (Do.REVOKE, 0)
        assert found.held is not None
        book.ended(found.held)
    assert book.is_over
    assert book.next_step(20) is None
    stuck = held()
    stuck.is_stuck = True
    book.held.append(stuck)
    assert step(book, 20)[0] is Do.FORGET


def test_wanted_again_while_it_is_being_ended_only_what_is_newest_is_shown() -> None:
    book = book_of(held(1), held(2, at=10))
    book.wanted = False
    book.ended(book.held[1])
    book.wanted = True
    assert book.newest is None
    assert step(book, 20)[0] is Do.MINT


def test_tries_come_within_five_seconds_and_the_values_of_old_leases_are_let_go() -> None:
    book = book_of(held(1), held(2))
    assert [dict(lease.values) for lease in book.held] == [{}, {"password": b"secret"}]
    waits = []
    for _ in range(6):
        book.failed(None, 0)
        waits.append(book.mint_retry_s)
        book.mint_retry_s = 0
    assert waits == [1, 2, 4, 5, 5, 5]
    assert "secret" not in repr(book.held)
    assert "creds" not in repr(book.held)


# Records


def test_a_record_brings_back_the_whole_book_whatever_the_length_of_the_reference() -> None:
    records, book = Records(MemorySafe()), book_of(held(1), held(2, at=10))
    book.asked_s = 12.5
    book.token_replaced("another", 99)
    assert records.save(REF, book)
    found = records.load(REF)
    assert found is not None
    fields = Held.__dataclass_fields__
    kept = [name for name in fields if name not in ("tries", "retry_s")]
    assert [[getattr(one, name) for name in kept] for one in found.held] == [
        [getattr(one, name) for name in kept] for one in book.held
    ]
    assert found.asked_s == 12.5
    assert records.refs() == [REF]
    records.drop(REF)
    assert records.load(REF) is None


@given(st.binary(max_size=200))
def test_a_record_that_is_none_of_ours_is_passed_over(blob: bytes) -> None:
    safe = MemorySafe()
    safe.put(name_of(REF), blob)
    safe.put(name_of(SecretRef("vault", "a")), msgspec.msgpack.encode([2, "vault", "a", "", None, []]))
    assert Records(safe).load(REF) is None
    assert Records(safe).refs() == []


def test_labels_are_the_same_after_a_restart_and_others_on_another_node() -> None:
    safe = MemorySafe()
    label = Labels(safe).of_values("content", {"a": b"b", "c": b""})
    assert re.fullmatch("content [0-9a-f]{8}", label)
    assert Labels(safe).of_values("content", {"c": b"", "a": b"b"}) == label
    assert Labels(safe).of_values("content", {"a": b"bc"}) != label
    assert Labels(MemorySafe()).of_values("content", {"a": b"b", "c": b""}) != label


# Values


def test_strings_are_bytes_and_everything_else_is_json() -> None:
    data = {"s": "ü", "n": 5, "f": 1.5, "b": True, "l": ["a", 1], "o": {"a": None}, "nothing": None, "e": ""}
    assert values_of("x", data) == {
        "s": "ü".encode(),
        "n": b"5",
        "f": b"1.5",
        "b": b"true",
        "l": b'["a",1]',
        "o": b'{"a":null}',
        "e": b"",
    }


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "has no keys"),
        ({"a": None}, "has no keys"),
        ({str(number): "" for number in range(65)}, "more than 64 keys"),
        ({"a": "x" * ((1 << 20) + 1)}, r"x\[a\]: has more than 1048576 bytes"),
        ({"a": "\ud800"}, r"x\[a\]: is no text that UTF-8 can hold"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_key_named(data: dict[str, object], why: str) -> None:
    with pytest.raises(Refused, match=why):
        values_of("x", data)


def test_only_what_an_engine_counts_down_is_no_change() -> None:
    assert essence({"ttl": b"59", "password": b"p", "pin": b"1"}) == {"password": b"p", "pin": b"1"}
    assert essence({"ttl": b"1h"}) == {"ttl": b"1h"}


def test_a_refused_version_is_refused_until_there_is_another() -> None:
    fit = Fit("x")
    fit.same()
    with pytest.raises(Refused, match="became empty"):
        fit.another({"a": b"1"}, {"a": ""})
    with pytest.raises(Refused, match="became empty"):
        fit.same()
    assert fit.another({"a": b"1"}, {"b": "2"}) == {"b": b"2"}
    fit.same()


# KV v2


@pytest.mark.parametrize(("path", "below"), [("kv/data/a", "a"), ("kv/data/a/b", "a/b"), ("kv/data/data/x", "data/x")])
def test_paths_below_data_are_secrets(path: str, below: str) -> None:
    assert path_on("kv", path, "x") == below
    assert path_on("team/kv", f"team/{path}", "x") == below


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("kv/a", "kv/data/a"),
        ("kv/metadata/a", "kv/data/a"),
        ("kv/data", "kv/data/data"),
        ("kv/data/", "kv/data/data/"),
        ("kv/undelete/a/b", "kv/data/a/b"),
    ],
)
def test_other_paths_are_refused_with_the_right_one(path: str, right: str) -> None:
    with pytest.raises(Refused, match=re.escape(f"write `path: {right}`")):
        path_on("kv", path, "x")


def test_a_version_that_will_be_deleted_later_is_served_until_then() -> None:
    metadata = Metadata(1, {"1": Version("2026-11-21T10:00:00.1Z", "2026-11-21T12:00:00.123456789Z")})
    assert stamp_of_metadata("x", metadata, 0, NOW).version == 1
    with pytest.raises(Refused, match="version 1 is deleted"):
        stamp_of_metadata("x", metadata, 0, NOW.replace(minute=1))


@pytest.mark.parametrize("metadata", [Metadata(0), Metadata(3, {"1": Version("a")})])
def test_metadata_without_the_current_version_say_that_there_is_none(metadata: Metadata) -> None:
    with pytest.raises(Refused, match="the secret has no version"):
        stamp_of_metadata("x", metadata, 0, NOW)


def test_a_time_without_a_zone_is_utc() -> None:
    metadata = Metadata(1, {"1": Version("2026-11-21T10:00:00", "2026-11-21T12:00:01")})
    assert stamp_of_metadata("x", metadata, 0, NOW).version == 1
    with pytest.raises(Refused, match="version 1 is deleted"):
        stamp_of_metadata("x", metadata, 0, NOW.replace(minute=1))


def test_a_time_that_is_none_is_a_bad_answer() -> None:
    with pytest.raises(Refused, match="a time that is none"):
        stamp_of_metadata("x", Metadata(1, {"1": Version("a", "soon")}), 0, NOW)


# The agenda


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.floats(0, 100)))))
def test_an_item_is_due_once_and_at_the_last_time_that_was_set(moves: list[tuple[int, float | None]]) -> None:
    agenda: Agenda[int] = Agenda()
    model: dict[int, float] = {}
    for item, at in moves:
        if at is None:
            agenda.drop(item)
            model.pop(item, None)
        else:
            agenda.put(item, at)
            model[item] = at
    assert agenda.next_at() == (min(model.values()) if model else None)
    due = agenda.due(50)
    assert set(due) == {item for item, at in model.items() if at <= 50}
    assert [model[item] for item in due] == sorted(model[item] for item in due)
    assert len(agenda) == len(model) - len(due)


def test_items_that_are_moved_for_ever_take_no_more_memory() -> None:
    agenda: Agenda[int] = Agenda()
    for number in range(10_000):
        agenda.put(number % 3, float(number))
    assert len(agenda._heap) < 200
