from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiclient.client import ApiClient
from apiclient.connection import Connection
from apiclient.election import LeaderElection
from tests.unit.apiclient import virtual
from tests.unit.apiclient.fake_server import FakeApiServer, serving
from tests.unit.apiclient.leases import Candidate, Store
from tests.unit.apiclient.things import until
from tests.unit.conftest import LogLines


def leaders(candidates: list[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.election.is_leader]


def test_one_of_several_leads_and_stays() -> None:
    async def story() -> None:
        store = Store()
        candidates = [Candidate(store, name) for name in "abc"]
        await asyncio.sleep(3)
        first = leaders(candidates)
        for _ in range(1000):
            await asyncio.sleep(1)
            assert leaders(candidates) == first
        assert len(first) == 1
        assert [candidate.working for candidate in candidates] == [c in first for c in candidates]
        assert {candidate.election.holder for candidate in candidates} == {first[0].election.identity}
        for candidate in candidates:
            await candidate.stop()

    virtual.run(story())


def test_a_leader_that_stops_hands_over_at_once() -> None:
    async def story() -> None:
        store = Store()
        first = Candidate(store, "a")
        await asyncio.sleep(0.1)
        second = Candidate(store, "b")
        await asyncio.sleep(30)
        assert [first.election.is_leader, second.election.is_leader] == [True, False]
        await first.stop()
        assert not first.working
        await asyncio.sleep(3)
        assert second.working
        assert store.lease is not None
        assert store.lease.spec.lease_transitions == 2
        await second.stop()

    virtual.run(story())


def test_a_leader_that_is_cut_off_stops_before_another_begins() -> None:
    async def story() -> None:
        store = Store()
        first = Candidate(store, "a")
        await asyncio.sleep(0.1)
        second = Candidate(store, "b")
        await asyncio.sleep(30)
        first.way.cut = True
        loop, cut_at = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        while first.election.is_leader or first.working:
            assert not second.election.is_leader
            await asyncio.sleep(0.1)
        assert loop.time() - cut_at <= 10.2
        await asyncio.wait_for(second.began.wait(), 60)
        assert 13 <= loop.time() - cut_at <= 18
        first.way.cut = False
        await asyncio.sleep(60)
        assert [first.working, second.working] == [False, True]
        await first.stop()
        await second.stop()

    virtual.run(story())


@pytest.mark.parametrize("phase", range(12))
def test_a_renewal_counts_from_when_it_was_sent_not_from_when_it_was_answered(phase: int) -> None:
    async def story() -> None:
        candidate = Candidate(Store(), "a")
        candidate.way.late_s = 3.5
        await asyncio.sleep(30 + phase / 2)
        assert candidate.working
        candidate.way.cut = True
        # One may have been sent just now: its answer comes in 3.5 s, and yet the belief ends 10 s after the sending.
        await asyncio.sleep(10.1)
        assert not candidate.election.is_leader
        await candidate.stop()

    virtual.run(story())


def test_a_renewal_whose_answer_was_lost_does_not_cost_the_lead() -> None:
    async def story() -> None:
        candidate = Candidate(Store(), "a")
        await asyncio.sleep(30)
        candidate.way.late_s = 6
        await asyncio.sleep(4)
        candidate.way.late_s = 0
        for _ in range(200):
            await asyncio.sleep(0.5)
            assert candidate.election.is_leader
        await candidate.stop()

    virtual.run(story())


def test_a_leader_whose_clock_runs_slow_comes_to_its_end_without_asking_ever_more_often() -> None:
    async def story() -> None:
        candidate = Candidate(Store(), "a", rate=0.86)
        await asyncio.sleep(30)
        candidate.way.cut, candidate.way.asked = True, 0
        while candidate.working:
            await asyncio.sleep(0.1)
            assert candidate.way.asked <= 9
        await candidate.stop()

    virtual.run(story())


def test_work_that_ends_or_fails_gives_the_lease_back_and_stands_again(log_lines: LogLines) -> None:
    async def story() -> None:
        store = Store()
        terms: list[int] = []

        async def work() -> None:
            terms.append(1)
            if len(terms) % 2:
                raise ValueError("canary")

        candidate = Candidate(store, "other")
        await asyncio.sleep(0.1)
        await candidate.stop()
        election = LeaderElection(candidate.way, "ns", "lease", "a", clock=asyncio.get_running_loop().time)
        running = asyncio.ensure_future(election.run(work))
        await asyncio.sleep(10)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert len(terms) in (4, 5)
        assert store.lease is not None
        assert store.lease.spec.holder_identity == ""
        assert not election.is_leader

    virtual.run(story())
    assert "canary" not in log_lines.text
    assert any(line.get("error_class") == "ValueError" for line in log_lines.lines)


def test_bounds_that_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="retry_s < renew_s < lease_s"):
        LeaderElection(None, "ns", "lease", "a", lease_s=10, renew_s=10)  # type: ignore[arg-type]


troubles = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 2)),
    st.tuples(st.just("heal"), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.integers(0, 2)),
    st.tuples(st.just("die"), st.integers(0, 2)),
)
moments = st.tuples(st.floats(0.1, 20), troubles)


@settings(max_examples=40)
@given(
    st.lists(moments, max_size=12),
    st.lists(st.floats(0.86, 1.14), min_size=3, max_size=3),
    st.floats(0, 7),
    st.integers(0, 1000),
)
def test_never_two_lead_whatever_is_late_lost_or_dies_and_in_the_end_one_does(
    story: list[tuple[float, tuple[str, int]]], rates: list[float], slowest_s: float, seed: int
) -> None:
    async def told() -> None:
        store = Store()
        born = 0

        def candidate(place: int) -> Candidate:
            nonlocal born
            born += 1
            return Candidate(store, f"p{born}", seed=seed + born, slowest_s=slowest_s, rate=rates[place])

        candidates = [candidate(place) for place in range(3)]

        async def pass_time(seconds: float) -> None:
            for _ in range(int(seconds * 4)):
                await asyncio.sleep(0.25)
                assert len(leaders(candidates)) <= 1
                assert sum(c.working for c in candidates) <= 1

        async def trouble(what: str, place: int) -> None:
            match what:
                case "cut" | "heal":
                    candidates[place].way.cut = what == "cut"
                case "restart":
                    await candidates[place].stop()
                    candidates[place] = candidate(place)
                case _:
                    candidates[place].way.cut = True  # killed: nothing is given back
                    await candidates[place].stop()
                    candidates[place] = candidate(place)

        for seconds, what in story:
            await pass_time(seconds)
            await trouble(*what)
        for each in candidates:
            each.way.cut, each.way.slowest_s = False, 0.1
        await pass_time(60)
        assert len(leaders(candidates)) == 1
        for each in candidates:
            await each.stop()

    virtual.run(told())


async def test_the_lease_is_written_as_the_api_server_wants_it_and_others_fields_are_numbers_and_times() -> None:
    fake = FakeApiServer()
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    async with serving(fake) as url, ApiClient(Connection(url)) as client:
        election = LeaderElection(client, "ns", "lease", "me")
        running = asyncio.create_task(election.run(work))
        await asyncio.wait_for(started.wait(), 5)
        stored: dict[str, Any] = fake.objects["leases", "ns", "lease"]
        assert stored["apiVersion"] == "coordination.k8s.io/v1"
        assert stored["spec"]["holderIdentity"] == "me"
        assert stored["spec"]["leaseDurationSeconds"] == 15
        assert stored["spec"]["renewTime"].endswith("Z")
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await until(lambda: fake.objects["leases", "ns", "lease"]["spec"]["holderIdentity"] == "")
