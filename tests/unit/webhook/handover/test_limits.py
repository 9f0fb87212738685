from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelsecret.errors import Code, Refused
from tests.unit.registrations.scene import Clock
from webhook.handover.limits import Limiter


def test_so_many_at_once_and_then_one_at_a_time() -> None:
    clock = Clock()
    limiter = Limiter(3, 0.5, clock.monotonic)
    for _ in range(3):
        limiter.take("a")
    with pytest.raises(Refused) as refused:
        limiter.take("a")
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert "2 s" in refused.value.fix
    clock.move(2)
    limiter.take("a")
    with pytest.raises(Refused):
        limiter.take("a")


def test_names_that_have_not_asked_for_long_are_forgotten() -> None:
    clock = Clock()
    limiter = Limiter(2, 1.0, clock.monotonic, names=10)
    for number in range(10):
        limiter.take(f"old-{number}")
    clock.move(10)
    limiter.take("new")
    assert set(limiter._left) == {"new"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=80))
def test_nobody_ever_gets_more_than_the_rate_allows(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    began = clock.monotonic()
    limiter = Limiter(4, 0.5, clock.monotonic)
    given = dict.fromkeys("abc", 0)
    for name, wait in steps:
        clock.move(wait)
        try:
            limiter.take(name)
        except Refused:
            continue
        given[name] += 1
    most = 4 + (clock.monotonic() - began) * 0.5 + 1e-6
    assert all(count <= most for count in given.values())
