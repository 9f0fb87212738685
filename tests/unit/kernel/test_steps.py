"""How many steps a read takes: as many as the program needs to emit the value, and never one too few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel.layout import Limit
from agent.kernel.store import steps_of

SIZES = st.integers(0, Limit.VALUE_BYTES)


def emitted_by(steps: int) -> int:
    """Chunks that the program has emitted after so many steps (emit_step in bpf/kernelsecret.bpf.c)."""
    return sum(1 if step < Limit.LEAD_STEPS else int(Limit.STEP_CHUNKS) for step in range(steps))


@given(SIZES)
def test_the_steps_of_a_value_emit_all_of_it_and_one_less_would_not(size: int) -> None:
    chunks = -(-size // Limit.CHUNK_BYTES)
    steps = steps_of(size)
    assert emitted_by(steps) >= chunks
    assert steps == 1 or emitted_by(steps - 1) < chunks


@given(SIZES, SIZES)
def test_a_longer_value_never_takes_fewer_steps(one: int, other: int) -> None:
    assert (steps_of(one) <= steps_of(other)) or one > other


def test_the_longest_value_takes_the_most_steps_that_there_are() -> None:
    assert steps_of(Limit.VALUE_BYTES) == Limit.STEPS


@pytest.mark.parametrize(("size", "steps"), [(0, 1), (1, 1), (1528, 1), (1529, 2), (6112, 4), (6113, 5), (36672, 5)])
def test_short_values_take_few_steps(size: int, steps: int) -> None:
    assert steps_of(size) == steps
