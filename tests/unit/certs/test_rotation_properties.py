"""Whoever read what was published within the overlap believes what is used now, whatever the times of the steps."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from certs.keys import KeyState
from certs.leaf import is_issued_by
from certs.pem import blocks
from certs.rotation import Policy, first_state, next_state
from certs.signing import LONGEST_LIFETIME, open_registration, sign_registration
from kernelsecret.trust import Trust
from tests.unit.certs.samples import DAY, HOUR, NOW, registration

POLICY = Policy(
    overlap=6 * HOUR,
    authority_lifetime=4 * DAY,
    leaf_lifetime=12 * HOUR,
    node_leaf_lifetime=8 * HOUR,
    signing_lifetime=2 * DAY,
)
# A leader that works, is away for a while, or for a long time; and whether it could publish.
WAITS = st.one_of(st.integers(1, 12), st.integers(12, 72), st.integers(72, 600)).map(lambda hours: hours * HOUR)
STEPS = st.lists(st.tuples(WAITS, st.sampled_from([True, True, True, False])), min_size=1, max_size=20)
EVEN = st.lists(st.integers(1, 5).map(lambda hours: hours * HOUR), min_size=20, max_size=40)


class World:
    """One leader, and everything that it ever published."""

    def __init__(self) -> None:
        self.now = NOW
        self.state = first_state(NOW, POLICY)
        self.published: list[tuple[datetime, Trust]] = []

    def step(self, wait: timedelta, *, published: bool) -> None:
        self.now += wait
        for _ in range(5):
            if published:
                self.published.append((self.now, self.state.trust(self.now)))
            after = next_state(self.state, self.now, POLICY, published=published)
            if after is None:
                return
            self.state = after
        raise AssertionError("it does not come to rest")

    def seen(self, since: datetime) -> list[Trust]:
        """What a reader may hold who last read at `since` or later."""
        old = [trust for at, trust in self.published if at <= since]
        return old[-1:] + [trust for at, trust in self.published if at > since]


def believes(authorities: str, state: KeyState) -> bool:
    return any(
        is_issued_by(state.leaf.certificate_pem, authority)
        for authority in blocks(authorities, "CERTIFICATE", "authorities")
    )


@settings(max_examples=15)
@given(EVEN)
def test_while_a_leader_works_every_reader_within_the_overlap_believes_leaf_and_signatures(
    waits: list[timedelta],
) -> None:
    world = World()
    for wait in waits:
        world.step(wait, published=True)
        read = world.seen(world.now - POLICY.overlap)
        for authorities in {trust.authorities for trust in read}:
            assert believes(authorities, world.state)
        wanted = registration(expires_at=world.now + LONGEST_LIFETIME)
        signed = sign_registration(world.state.signing_key, wanted)
        for keys in {trust.registration_keys for trust in read}:
            assert open_registration(signed, keys, world.now) == wanted


@settings(max_examples=15)
@given(EVEN)
def test_while_a_leader_works_what_was_issued_is_believed_until_it_expires(waits: list[timedelta]) -> None:
    world = World()
    issued: list[tuple[datetime, str]] = []
    for wait in waits:
        world.step(wait, published=True)
        now, trust = world.published[-1]
        issued.append((now, world.state.authority.certificate_pem))
        for at, authority in issued:
            if at + POLICY.node_leaf_lifetime > now:
                assert authority in trust.authorities


@settings(max_examples=40)
@given(STEPS)
def test_whatever_happens_something_valid_is_in_use_that_was_published_if_anything_valid_was(
    steps: list[tuple[timedelta, bool]],
) -> None:
    world = World()
    for wait, published in steps:
        known = world.seen(world.now + wait - POLICY.overlap)
        before = world.state
        world.step(wait, published=published)
        state, now = world.state, world.now
        assert state.authority.not_before <= now < state.authority.not_after
        assert state.leaf.not_before <= now < state.leaf.not_after
        assert is_issued_by(state.leaf.certificate_pem, state.authority.certificate_pem)
        assert now < state.signing_key.not_after
        if state.authority != before.authority and before.authority.not_after > now:
            # Nothing was wrong with the one before, so the new one had been published for long enough.
            assert state.authority.certificate_pem in known[0].authorities
        if state.signing_key != before.signing_key and before.signing_key.not_after > now:
            assert state.signing_key.public in known[0].registration_keys


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(-3 * 365, 3 * 365), st.booleans()), max_size=12))
def test_after_any_jumps_of_the_clock_a_few_days_of_work_make_everything_as_it_should_be(
    jumps: list[tuple[int, bool]],
) -> None:
    world = World()
    for days, published in jumps:
        world.now = NOW + days * DAY
        world.step(HOUR, published=published)
    world.now = NOW
    # Each ring has turned over once by then.
    for _ in range(8):
        world.step(DAY, published=True)
    state = world.state
    assert len(state.authorities) <= 2
    assert len(state.signing_keys) <= 2
    assert all(one.item.not_after <= world.now + POLICY.authority_lifetime for one in state.authorities)
    assert all(one.item.not_after <= world.now + POLICY.signing_lifetime for one in state.signing_keys)
    assert all(one.published_at is None or one.published_at <= world.now for one in state.authorities)
    assert state.leaf.not_after <= world.now + POLICY.leaf_lifetime


def test_weeks_of_work_in_steps_of_hours_keep_the_state_small() -> None:
    world = World()
    authorities = set()
    end = NOW + 45 * DAY
    while world.now < end:
        world.step(8 * HOUR, published=True)
        authorities.add(world.state.authority.certificate_pem)
        assert len(world.state.authorities) <= 3
        assert len(world.state.signing_keys) <= 3
    assert 20 <= len(authorities) <= 24
