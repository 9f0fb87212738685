"""The rules by which reads become versions, as properties over any order of outcomes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.sources.book import Book
from agent.sources.keys import MAX_KEYS, Bad, Busy, Missing, Outcome, Value

NAMES = st.sampled_from(["a", "b", "c"])
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Value, st.binary(max_size=3)), st.just(Missing()), st.just(Busy()), st.just(Bad("no"))
)
ROUNDS = st.lists(st.one_of(st.dictionaries(NAMES, OUTCOMES, max_size=3), st.just("replaced")), max_size=12)


def began(values: dict[str, bytes]) -> Book:
    book = Book()
    book.replaced()
    assert book.apply({name: Value(data) for name, data in values.items()}) is bool(values)
    return book


@given(ROUNDS)
def test_a_key_once_good_is_never_lost_and_never_becomes_empty(rounds: list[dict[str, Outcome] | str]) -> None:
    book = began({"a": b"1", "b": b"2"})
    known = book.known
    for outcomes in rounds:
        if isinstance(outcomes, str):
            book.replaced()
        else:
            book.apply(outcomes)
        assert known <= book.known
        known = book.known
        assert book.values["a"]
        assert book.values["b"]


@given(ROUNDS)
def test_the_values_change_exactly_when_it_says_so(rounds: list[dict[str, Outcome] | str]) -> None:
    book = began({"a": b"1", "b": b"2"})
    for outcomes in rounds:
        before = book.values
        if isinstance(outcomes, str):
            book.replaced()
            assert book.values == before
        else:
            assert book.apply(outcomes) is (book.values != before)


@given(st.permutations(["a", "b", "c"]))
def test_after_a_replacement_nothing_changes_until_every_known_key_has_come(order: list[str]) -> None:
    book = began({"a": b"1", "b": b"1", "c": b"1"})
    book.replaced()
    for name in order[:-1]:
        assert not book.apply({name: Value(b"2")})
        assert "not there since" in book.problem
    assert book.apply({order[-1]: Value(b"2")})
    assert book.values == {"a": b"2", "b": b"2", "c": b"2"}
    assert not book.problem


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1))
def test_no_problem_text_ever_holds_a_value(values: list[bytes]) -> None:
    book = began({"a": b"secret-value"})
    for value in values:
        book.apply({"a": Value(b""), "b": Value(value), "c": Bad("too large")})
        assert "secret-value" not in book.problem
        assert "secret-value" not in repr(book)
    assert "b'" not in repr(Value(values[0]))


def test_a_key_that_vanishes_again_while_the_folder_is_incomplete_does_not_count() -> None:
    book = began({"a": b"1", "b": b"1"})
    book.replaced()
    book.apply({"a": Value(b"2")})
    book.apply({"a": Missing()})
    assert not book.apply({"b": Value(b"2")})
    assert book.values == {"a": b"1", "b": b"1"}


def test_one_key_too_many_is_a_problem_and_the_others_go_on() -> None:
    book = began({f"k{number:02}": b"x" for number in range(MAX_KEYS)})
    assert not book.apply({"more": Value(b"x")})
    assert "one more than" in book.problem
    assert book.apply({"k00": Value(b"y")})
    assert "more" not in book.values
