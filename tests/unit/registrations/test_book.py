from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.registrations.book import Held, RegistrationBook
from kernelsecret.errors import Code, Refused
from kernelsecret.registration import SignedRegistration
from tests.unit.registrations.scene import Clock, registration

ENVELOPE = SignedRegistration(key_id="k", payload=b"", signature=b"")


def held(clock: Clock, number: int, namespace: str = "payments", seconds: float = 600) -> Held:
    made = registration(
        clock,
        pod_uid=f"uid-{number}",
        namespace=namespace,
        nonce=f"{number:032x}",
        expires_at=clock.now() + timedelta(seconds=seconds),
    )
    return Held(made, ENVELOPE)


def test_a_nonce_is_admitted_once_until_its_registration_expires() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now)
    one = held(clock, 1)
    book.admit(one)
    clock.move(599)
    with pytest.raises(Refused) as refused:
        book.admit(one)
    assert refused.value.code is Code.ALREADY_EXISTS
    clock.move(1)
    assert book.get("uid-1") is None


def test_a_forgotten_pods_nonce_is_still_remembered() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now)
    book.admit(held(clock, 1))
    book.forget("uid-1")
    book.forget("uid-1")
    with pytest.raises(Refused):
        book.admit(held(clock, 1))
    assert book.get("uid-1") is None


def test_when_no_more_nonces_can_be_told_apart_nothing_more_is_admitted_until_some_expire() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now, nonces=2)
    book.admit(held(clock, 1, seconds=10))
    book.admit(held(clock, 2))
    with pytest.raises(Refused) as refused:
        book.admit(held(clock, 3))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    book.keep(held(clock, 3))
    clock.move(10)
    book.admit(held(clock, 4))


def test_a_newer_registration_takes_the_place_of_the_older() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now)
    book.admit(held(clock, 1))
    newer = Held(registration(clock, pod_uid="uid-1", nonce="e" * 32), ENVELOPE)
    book.admit(newer)
    assert book.get("uid-1") == newer
    assert len(book) == 1


def test_a_namespace_that_floods_the_book_pushes_out_only_its_own() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now, limit=10)
    for number in range(3):
        book.admit(held(clock, number, "quiet"))
    for number in range(100, 150):
        book.admit(held(clock, number, "loud"))
    assert all(book.get(f"uid-{number}") for number in range(3))
    assert len(book) == 10
    assert book.evicted == 43


def test_a_full_book_makes_room_for_a_namespace_that_has_little() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now, limit=4)
    for number in range(4):
        book.admit(held(clock, number, "loud"))
    book.admit(held(clock, 9, "quiet"))
    assert book.get("uid-9") is not None
    assert len(book) == 4


def test_what_has_expired_goes_before_anything_that_lives() -> None:
    clock = Clock()
    book = RegistrationBook(clock.now, limit=2)
    book.admit(held(clock, 1, seconds=5))
    book.admit(held(clock, 2))
    clock.move(6)
    book.admit(held(clock, 3, "other"))
    assert book.get("uid-2") is not None
    assert book.evicted == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "keep", "forget", "move"]), st.integers(0, 12), st.sampled_from("abc")),
        max_size=60,
    )
)
def test_whatever_happens_the_book_is_bounded_and_shows_only_what_lives(steps: list[tuple[str, int, str]]) -> None:
    clock = Clock()
    book = RegistrationBook(clock.now, limit=5, nonces=8)
    for step, number, namespace in steps:
        match step:
            case "admit":
                with suppress(Refused):
                    book.admit(held(clock, number, namespace, seconds=30))
            case "keep":
                book.keep(held(clock, number, namespace, seconds=30))
                assert book.get(f"uid-{number}") is not None
            case "forget":
                book.forget(f"uid-{number}")
                assert book.get(f"uid-{number}") is None
            case _:
                clock.move(number)
        assert len(book) <= 5
        assert len(book._nonces) == len(book._ends) <= 8
        assert sum(book._share.values()) == len(book)
        for uid in [f"uid-{one}" for one in range(13)]:
            found = book.get(uid)
            assert found is None or found.registration.expires_at > clock.now()
