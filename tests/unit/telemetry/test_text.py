from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from telemetry.text import clean, rfc3339, wall_clock


@given(st.text() | st.binary(), st.integers(1, 300))
def test_cleaned_text_is_printable_and_within_its_limit(text: str | bytes, limit: int) -> None:
    shown = clean(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


@given(st.text(), st.text())
def test_two_different_names_never_look_the_same(one: str, other: str) -> None:
    assert (clean(one, 10_000) == clean(other, 10_000)) == (one == other)


def test_a_process_name_cannot_forge_a_line_or_turn_text_round() -> None:
    assert clean(b'x\n{"a":1}') == 'x\\x0a{"a":1}'
    assert clean("a\u202eb") == "a\\u202eb"
    assert clean(b"\x1b[31mred") == "\\x1b[31mred"
    assert clean(b"\xff\xfe") == "\\xff\\xfe"
    assert clean("a\\x0a") == "a\\\\x0a"


def test_a_kernel_name_ends_at_its_first_nul() -> None:
    assert clean(b"cat\0leftover") == "cat"


def test_times_have_nanoseconds() -> None:
    assert rfc3339(1_795_255_200_000_000_007) == "2026-11-21T10:00:00.000000007Z"


def test_a_kernel_time_becomes_wall_clock() -> None:
    assert wall_clock(90, now_kernel_ns=100, now_wall_ns=1_000_000) == 999_990
