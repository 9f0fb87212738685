"""What is held for publishes to come: for a time, within bounds, and never what its source no longer says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.model import SecretRef, SecretVersion
from agent.secrets.ahead import MOST, MOST_BYTES, Ahead


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ref(number: int) -> SecretRef:
    return SecretRef("file", f"secret-{number:03}")


def version(number: int, size: int = 10) -> SecretVersion:
    return SecretVersion(ref(number), {"key": b"x" * size})


def test_only_what_is_expected_is_held_and_only_for_its_time() -> None:
    clock = Clock()
    ahead = Ahead(clock)
    assert ahead.admit([ref(1)], 10) == [ref(1)]
    ahead.put(version(1))
    ahead.put(version(2))
    assert (ahead.get(ref(1)), ahead.get(ref(2)), ahead.refs()) == (version(1), None, {ref(1)})
    clock.now = 5
    ahead.admit([ref(1)], 10)
    clock.now = 14
    assert ahead.get(ref(1)) == version(1)
    clock.now = 15
    assert (ahead.get(ref(1)), ahead.refs()) == (None, set())


def test_no_more_secrets_are_held_than_there_is_room_for() -> None:
    clock = Clock()
    ahead = Ahead(clock)
    assert len(ahead.admit(map(ref, range(MOST + 10)), 10)) == MOST
    assert ahead.admit([ref(MOST + 20)], 10) == []
    clock.now = 10
    ahead.forget_old()
    assert ahead.admit([ref(MOST + 20)], 10) == [ref(MOST + 20)]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1, MOST_BYTES // 2, MOST_BYTES, MOST_BYTES + 1]))))
def test_never_more_bytes_are_held_than_are_allowed(puts: list[tuple[int, int]]) -> None:
    ahead = Ahead(Clock())
    ahead.admit(map(ref, range(6)), 10)
    for number, size in puts:
        ahead.put(version(number, size))
        held = [ahead.get(ref(one)) for one in range(6)]
        assert sum(len(one.values["key"]) for one in held if one) <= MOST_BYTES
        found = ahead.get(ref(number))
        assert found is None or len(found.values["key"]) == size, "never an older version than the last"


def test_what_its_source_cannot_say_any_more_is_not_held() -> None:
    ahead = Ahead(Clock())
    ahead.admit([ref(1)], 10)
    ahead.put(version(1))
    ahead.drop(ref(1))
    assert (ahead.get(ref(1)), ahead.refs()) == (None, {ref(1)})
