from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiclient.backoff import Backoff
from apiclient.objects import Lines, Unreadable, read_event, read_meta, read_page


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_the_same_however_they_are_cut_into_chunks(parts: list[bytes], size: int) -> None:
    text = b"\n".join(parts) + b"\n"
    lines = Lines()
    cut = [line for begin in range(0, len(text), size) for line in lines.feed(text[begin : begin + size])]
    assert cut == [line for line in text.split(b"\n") if line.strip()]


def test_a_line_without_an_end_is_given_up() -> None:
    lines = Lines(longest=100)
    assert list(lines.feed(b"x" * 60)) == []
    with pytest.raises(Unreadable):
        list(lines.feed(b"x" * 41))


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_or_said_to_be_unreadable(junk: bytes) -> None:
    for read in (read_page, read_event):
        with suppress(Unreadable):
            read(junk)


@pytest.mark.parametrize("junk", [b"[" * 100_000, b'{"metadata":' * 50_000, b'"\xff"', b"{}", b"null", b""])
def test_depth_and_bad_utf8_are_unreadable_too(junk: bytes) -> None:
    with pytest.raises(Unreadable):
        read_page(junk)
    with pytest.raises(Unreadable):
        read_event(junk)
    with pytest.raises(Unreadable):
        read_meta(read_event(b'{"type":"ADDED","object":{"kind":"x"}}').object)


def test_waits_double_up_to_a_bound_and_differ_by_chance() -> None:
    least, most = Backoff(1, 10, chance=lambda: 0.0), Backoff(1, 10, chance=lambda: 1.0)
    assert [least.next_s() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    assert [most.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    most.reset()
    assert most.next_s() == 1
    assert [least.next_s(30), most.next_s(30)] == [30, 37.5]
    endless = Backoff()
    assert all(endless.next_s() <= 30 for _ in range(5000))
