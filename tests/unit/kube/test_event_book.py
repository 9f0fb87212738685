"""What is said again is counted, floods are cut, and nothing grows without bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.kube import event_book
from agent.kube.event_book import EventBook, EventReason, Told
from agent.model import PodRef

POD = PodRef("payments", "api-0", "uid-1", "api")
DOWN, FAILED = EventReason.SOURCE_DOWN, EventReason.ROTATION_FAILED


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> EventBook:
    return EventBook(clock)


def pod(number: int) -> PodRef:
    return PodRef("payments", f"api-{number}", f"uid-{number}", "api")


def test_what_is_said_again_is_counted_and_its_count_is_written_once_a_minute(book: EventBook, clock: Clock) -> None:
    assert book.tell(POD, DOWN, "away", True) is Told.NEW
    made = book.next()
    assert made is not None
    assert (made.count, made.written, book.next()) == (1, 0, None)
    book.wrote(made, 1)
    assert [book.tell(POD, DOWN, "away", True) for _ in range(5)] == [Told.COUNTED] * 5
    assert book.next() is None
    assert book.next_in_s() == 60.0
    clock.now += 60.0
    assert book.next() is made
    assert made.count == 6
    book.wrote(made, made.count)
    assert book.next() is None
    assert book.next_in_s() is None


def test_pod_reason_type_and_note_make_an_event(book: EventBook) -> None:
    told = [(POD, DOWN, "a", True), (pod(2), DOWN, "a", True), (POD, FAILED, "a", True), (POD, DOWN, "b", True)]
    assert {book.tell(*one) for one in told} == {Told.NEW}
    assert book.tell(POD, DOWN, "a", False) is Told.NEW


def test_after_ten_quiet_minutes_it_is_another_event(book: EventBook, clock: Clock) -> None:
    book.tell(POD, DOWN, "a", True)
    clock.now += 599.0
    assert book.tell(POD, DOWN, "a", True) is Told.COUNTED
    clock.now += 600.0
    assert book.tell(POD, DOWN, "a", True) is Told.NEW


def test_a_pod_whose_notes_differ_each_time_gets_few_of_each_reason(book: EventBook, clock: Clock) -> None:
    told = [book.tell(POD, DOWN, f"attempt {number}", True) for number in range(50)]
    assert (told.count(Told.NEW), told.count(Told.LIMITED)) == (4, 46)
    assert book.tell(POD, FAILED, "another reason", True) is Told.NEW
    assert book.tell(pod(2), DOWN, "another pod", True) is Told.NEW
    clock.now += 60.0
    assert book.tell(POD, DOWN, "later", True) is Told.NEW
    assert book.tell(POD, DOWN, "and later", True) is Told.LIMITED


def test_all_of_a_node_are_limited_together(book: EventBook, clock: Clock) -> None:
    told = []
    for number in range(400):
        told.append(book.tell(pod(number), DOWN, "a", True))
        book.next()
    assert told.count(Told.NEW) == 256
    clock.now += 10.0
    assert [book.tell(pod(number), FAILED, "a", True) for number in range(30)].count(Told.NEW) == 20


def test_more_than_can_wait_is_lost(book: EventBook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_book, "MOST_WAITING", 2)
    assert [book.tell(pod(number), DOWN, "a", True) for number in range(3)] == [Told.NEW, Told.NEW, Told.FULL]


def test_what_could_not_be_written_is_new_when_it_is_said_again(book: EventBook) -> None:
    book.tell(POD, DOWN, "a", True)
    made = book.next()
    assert made is not None
    book.forget(made)
    assert book.tell(POD, DOWN, "a", True) is Told.NEW


def test_a_long_name_of_a_pod_leaves_room_for_what_makes_the_event_unique(book: EventBook) -> None:
    name = f"{'a' * 199}-{'b' * 53}"
    for note in ("a", "b"):
        book.tell(PodRef("payments", name, "uid", "api"), DOWN, note, True)
    names = {made.name for made in (book.next(), book.next()) if made}
    assert len(names) == 2
    assert all(len(one) <= 253 and ".-" not in one and "-." not in one for one in names)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(list(EventReason)), st.integers(0, 50)), max_size=200))
def test_whatever_is_told_what_is_kept_is_bounded(told: list[tuple[int, EventReason, int]]) -> None:
    clock = Clock()
    book = EventBook(clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_book, "MOST_SERIES", 5)
        patch.setattr(event_book, "MOST_WAITING", 5)
        for number, reason, note in told:
            book.tell(pod(number), reason, str(note), True)
            clock.now += 0.1
            assert max(len(book._series), len(book._waiting), len(book._of_pods)) <= 5
