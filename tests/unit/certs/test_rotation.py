from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from certs.authority import create_authority
from certs.bundle import bundle_of
from certs.keys import Kept, KeyState, Stage
from certs.leaf import is_issued_by
from certs.rotation import Policy, first_state, next_state
from certs.signing import LONGEST_LIFETIME, open_registration, sign_registration
from kernelsecret.errors import Refused
from tests.unit.certs.samples import DAY, HOUR, NOW, YEAR, registration

POLICY = Policy()


def stages(state: KeyState) -> tuple[list[str], list[str]]:
    return (
        [kept.stage.name for kept in state.authorities],
        [kept.stage.name for kept in state.signing_keys],
    )


def step(state: KeyState, now: datetime, *, published: bool = True, policy: Policy = POLICY) -> KeyState:
    after = next_state(state, now, policy, published=published)
    assert after is not None
    return after


def rested(state: KeyState, now: datetime, *, policy: Policy = POLICY) -> KeyState:
    """The state after all that can be done at this moment, which is not without end."""
    for _ in range(5):
        after = next_state(state, now, policy, published=True)
        if after is None:
            return state
        state = after
    raise AssertionError("it does not come to rest")


def test_the_first_state_is_used_at_once_and_comes_to_rest_when_it_is_published() -> None:
    state = first_state(NOW, POLICY)
    assert stages(state) == (["CURRENT"], ["CURRENT"])
    assert is_issued_by(state.leaf.certificate_pem, state.authority.certificate_pem)
    assert state.leaf.hosts == POLICY.hosts
    assert next_state(state, NOW, POLICY, published=False) is None
    published = step(state, NOW)
    assert published.authorities[0].published_at == NOW
    assert next_state(published, NOW + HOUR, POLICY, published=True) is None


def test_an_authority_is_published_then_used_then_dropped() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    old = state.authority
    half = NOW + POLICY.authority_lifetime / 2
    assert stages(rested(state, half - HOUR))[0] == ["CURRENT"]

    state = rested(state, half)
    assert stages(state)[0] == ["CURRENT", "NEXT"]
    assert state.authority == old
    new = state.authorities[1].item
    assert state.bundle(half) == old.certificate_pem + new.certificate_pem

    assert rested(state, half + POLICY.overlap - HOUR).authority == old
    used = half + POLICY.overlap
    state = rested(state, used)
    assert stages(state)[0] == ["CURRENT", "FORMER"]
    assert state.authority == new
    assert is_issued_by(state.leaf.certificate_pem, new.certificate_pem)
    assert state.bundle(used) == new.certificate_pem + old.certificate_pem

    dropped = used + POLICY.overlap + POLICY.node_leaf_lifetime
    assert stages(rested(state, dropped - HOUR))[0] == ["CURRENT", "FORMER"]
    state = rested(state, dropped)
    assert state.bundle(dropped) == new.certificate_pem


def test_a_signing_key_is_published_then_used_then_dropped() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    old = state.signing_key
    half = NOW + POLICY.signing_lifetime / 2
    state = rested(state, half)
    assert stages(state)[1] == ["CURRENT", "NEXT"]
    new = state.signing_keys[1].item
    assert state.trust(half).registration_keys == (old.public, new.public)
    assert state.signing_key == old

    used = half + POLICY.overlap
    state = rested(state, used)
    assert state.signing_key == new
    wanted = registration(expires_at=used + LONGEST_LIFETIME)
    assert open_registration(sign_registration(old, wanted), state.trust(used).registration_keys, used) == wanted

    assert stages(rested(state, used + POLICY.overlap))[1] == ["CURRENT", "FORMER"]
    assert stages(rested(state, used + POLICY.overlap + LONGEST_LIFETIME))[1] == ["CURRENT"]


def test_what_is_not_published_is_not_used() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    half = NOW + POLICY.authority_lifetime / 2
    state = step(state, half, published=False)
    assert stages(state) == (["CURRENT", "NEXT"], ["CURRENT"])  # the signing key has expired by now and was replaced
    for days in (1, 10, 100):
        later = next_state(state, half + days * DAY, POLICY, published=False) or state
        assert later.authority == state.authority
        assert later.authorities[1].published_at is None


def test_what_is_published_no_more_is_not_used() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    half = NOW + POLICY.signing_lifetime / 2
    state = rested(state, half)
    late = half + 2 * POLICY.overlap
    after = next_state(state, late, POLICY, published=False)
    assert after is None or after.signing_key == state.signing_key
    assert rested(state, late).signing_key != state.signing_key


def test_a_leaf_is_renewed_when_a_third_of_its_life_is_left() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    assert rested(state, NOW + 19 * DAY).leaf == state.leaf
    renewed = rested(state, NOW + 21 * DAY)
    assert renewed.leaf != state.leaf
    assert renewed.authority == state.authority
    assert renewed.leaf.not_after == NOW + 21 * DAY + POLICY.leaf_lifetime


def test_a_leaf_for_other_hosts_is_made_at_once() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    policy = Policy(hosts=(*POLICY.hosts, "localhost", "127.0.0.1"))
    assert step(state, NOW + HOUR, policy=policy).leaf.hosts == policy.hosts


def test_an_address_that_is_written_at_length_is_the_same_address() -> None:
    policy = Policy(hosts=("localhost", "0:0:0:0:0:0:0:1", "127.0.0.1"))
    state = rested(first_state(NOW, policy), NOW, policy=policy)
    assert state.leaf.hosts == ("localhost", "::1", "127.0.0.1")


def test_at_the_end_of_an_authority_its_leaf_is_not_made_again_and_again() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    made, before = 0, state.leaf
    # Nothing can be published, so the authority lives to its end.
    for hours in range(0, 30 * 24, 6):
        now = NOW + POLICY.authority_lifetime - 30 * DAY + hours * HOUR
        state = next_state(state, now, POLICY, published=False) or state
        made, before = made + (state.leaf != before), state.leaf
        assert state.leaf.not_after > now
    assert made <= 2


def test_a_state_found_years_later_starts_anew_at_once() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    now = NOW + 10 * YEAR
    found = step(state, now, published=False)
    assert stages(found) == (["CURRENT"], ["CURRENT"])
    assert found.authority.not_before <= now < found.authority.not_after
    assert found.leaf.not_before <= now < found.leaf.not_after
    assert found.signing_key.not_after > now
    assert rested(found, now).authority == found.authority


def test_a_successor_that_was_published_takes_over_from_one_that_has_expired() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    state = rested(state, NOW + POLICY.authority_lifetime - HOUR)
    following = state.authorities[1].item
    after = step(state, NOW + POLICY.authority_lifetime + HOUR, published=False)
    assert after.authority == following


def test_a_clock_that_was_years_ahead_for_a_while_leaves_nothing_behind() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    state = rested(state, NOW + 5 * YEAR)
    wrong = state.authority
    state = rested(state, NOW + HOUR)
    assert state.authority != wrong
    assert state.leaf.not_before <= NOW + HOUR < state.leaf.not_after
    for days in range(1, 400):
        state = rested(state, NOW + days * DAY)
        assert state.authority.not_before <= NOW + days * DAY < state.authority.not_after
    assert wrong not in [kept.item for kept in state.authorities]
    assert len(state.authorities) <= 3
    assert all(kept.item.not_after < NOW + 2 * YEAR for kept in state.signing_keys)


def test_when_the_clock_comes_back_an_authority_that_is_still_kept_is_used_again() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    first = state.authority
    ahead = NOW + POLICY.authority_lifetime / 2
    state = rested(rested(state, ahead), ahead + POLICY.overlap)
    assert state.authority != first
    assert rested(state, NOW + HOUR).authority == first


def test_a_leaf_that_was_made_in_the_future_is_made_again() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    ahead = rested(state, NOW + 25 * DAY)
    assert ahead.leaf.not_before > NOW + DAY
    back = rested(ahead, NOW + DAY)
    assert back.authority == state.authority
    assert back.leaf.not_before <= NOW + DAY < back.leaf.not_after


def test_of_two_that_could_take_over_the_one_that_was_published_first_does() -> None:
    ahead, early, late = (create_authority(moment, YEAR) for moment in (NOW + YEAR, NOW, NOW))
    state = first_state(NOW, POLICY)
    state = replace(
        state,
        authorities=(
            Kept(ahead, NOW, published_at=NOW, used_from=NOW),
            Kept(late, NOW - DAY),
            Kept(early, NOW, published_at=NOW - DAY, used_from=NOW - DAY, retired_at=NOW),
        ),
    )
    assert step(state, NOW + HOUR, published=False).authority == early


def test_small_differences_between_the_clocks_of_replicas_change_nothing() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    assert next_state(state, NOW - timedelta(minutes=4), POLICY, published=True) is None


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"hosts": ()}, "hosts"),
        ({"overlap": timedelta(0)}, "overlap"),
        ({"overlap": 40 * DAY}, "overlap"),
        ({"overlap": HOUR, "signing_lifetime": HOUR}, "overlap"),
        ({"leaf_lifetime": 200 * DAY}, "overlap"),
        ({"leaf_lifetime": -DAY}, "leaf_lifetime"),
        ({"node_leaf_lifetime": timedelta(0)}, "node_leaf_lifetime"),
        ({"authority_lifetime": DAY}, "overlap"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: dict[str, object], field: str) -> None:
    with pytest.raises(Refused) as refused:
        Policy(**policy)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_the_current_authority_comes_first_in_the_bundle() -> None:
    state = rested(first_state(NOW, POLICY), NOW)
    state = rested(state, NOW + YEAR / 2)
    assert [kept.stage for kept in state.authorities] == [Stage.CURRENT, Stage.NEXT]
    assert state.bundle(NOW) == bundle_of([kept.item.certificate_pem for kept in state.authorities], NOW)
