"""Whatever happens in whatever order: what is promised of leases holds. Hours of it pass at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.sources.vault.lease_book import GRACE_S
from agent.sources.vault.source import LINGER_S, SWEEP_S
from tests.unit.sources.vault_source.fake_vault import ROUND_TRIP_S, FakeVault, Made, Role
from tests.unit.sources.vault_source.simulated import Agent, Observer, now, ref_of, run

CREDS = "database/creds/app"
DB = ref_of(CREDS)
SETTLED_S = 7.0
"""The longest wait between two tries, a look at an outage's end, and some round trips."""

Act = tuple[str, float]
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.0, 0.02)),
        st.tuples(st.just("wait"), st.floats(0.02, 400.0)),
        st.tuples(st.just("outage"), st.floats(0.0, 300.0)),
        st.tuples(st.just("cut"), st.floats(0.0, 60.0)),
        st.tuples(st.just("kill"), st.floats(0.0, 45.0)),
        st.tuples(st.just("read"), st.just(0.0)),
        st.tuples(st.just("nudge"), st.just(0.0)),
        st.tuples(st.just("token"), st.floats(20.0, 600.0)),
        st.tuples(st.just("fetch"), st.just(0.0)),
        st.tuples(st.just("unwatch"), st.floats(0.0, 30.0)),
        st.tuples(st.just("revoked outside"), st.just(0.0)),
    ),
    max_size=14,
)


@dataclass
class World:
    """One secret, who watches it, and what may excuse what is seen."""

    vault: FakeVault
    agent: Agent
    seen: Observer = field(default_factory=Observer)
    cancel: Callable[[], None] = lambda: None
    up_since: float = 0.0
    watched_since: float = 0.0
    unwatched: float = float("inf")
    may_revoke: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)

    @classmethod
    def begun(cls, role: Role, seed: int) -> World:
        vault = FakeVault()
        vault.roles[CREDS] = role
        world = cls(vault, Agent(vault, seed=seed))
        world.watch()
        return world

    def watch(self) -> None:
        self.seen = Observer()
        self.watched_since, self.unwatched = now(), float("inf")
        self.cancel = self.agent.source.watch(DB, self.seen)

    @property
    def shown(self) -> Made | None:
        label = self.seen.versions[-1].values["password"].decode() if self.seen.versions else ""
        return self.vault.made[int(label[1:]) - 1] if label else None

    async def look_on(self, for_s: float) -> None:
        """Let time pass, and hold what is promised against what is seen, again and again."""
        end = now() + for_s
        while now() < end:
            await asyncio.sleep(min(1.0, end - now()))
            self.hold()

    def hold(self) -> None:
        shown, quiet = self.shown, now() - max(self.up_since, self.watched_since)
        if not self.vault.down and not self.vault.cut and quiet > SETTLED_S:
            assert shown is not None, "no credentials although Vault answers"
            excused = shown.id in self.outside  # nobody hears of that before the next renewal
            assert shown.alive(now()) or excused, "dead credentials are shown although Vault answers"

    async def act(self, what: str, much: float) -> None:
        if what == "wait":
            await self.look_on(much)
        elif what in ("outage", "cut"):
            setattr(self.vault, "down" if what == "outage" else what, True)
            await self.look_on(much)
            self.vault.down = self.vault.cut = False
            self.up_since = now()
        elif what == "kill":
            await self.agent.kill()
            await asyncio.sleep(much)
            await self.agent.start()
            self.watch()
        elif what == "read" and self.seen.versions:
            newest = self.shown
            assert newest is not None
            self.may_revoke |= {lease.id for lease in self.vault.made if lease.at < newest.at}
            self.agent.source.all_read(DB, self.seen.versions[-1].label)
        elif what == "nudge":
            self.agent.source.nudge(CREDS)
        elif what == "token":
            for identity in self.vault.identities():
                self.replaced |= {lease.id for lease in self.vault.live()}
                self.vault.replace_token(identity, much)
        elif what == "fetch":
            await asyncio.gather(self.agent.source.fetch(DB), return_exceptions=True)
        elif what == "unwatch":
            self.cancel()
            self.unwatched = now()
            await asyncio.sleep(much)
            if much >= LINGER_S:
                self.may_revoke |= {lease.id for lease in self.vault.made}
            self.watch()
        elif what == "revoked outside" and (shown := self.shown) is not None and shown.alive(now()):
            self.vault.end(shown)
            self.outside.add(shown.id)


def mints_have_a_reason(world: World) -> None:
    """Each lease was made when there was no good one that could have been kept."""
    known = [lease for lease in world.vault.made if lease.delivered]
    for before, made in pairwise(known):
        is_good = before.alive(made.at)
        left = before.last - made.at
        capped = left <= max(before.ttl * 0.95, before.ttl - 1)
        assert not is_good or capped or before.id in world.replaced, (before, made)


def nothing_is_revoked_too_soon(world: World, killed: bool) -> None:
    for lease in world.vault.made:
        if lease.revoked < lease.ends and lease.delivered and not killed:
            assert lease.id in world.may_revoke | world.outside, lease


def ended(world: World) -> None:
    now_live = [lease for lease in world.vault.live() if lease.delivered]
    assert not now_live, now_live
    assert not [name for name in world.agent.safe.names() if name.startswith("vault-lease:")]


@settings(deadline=None, max_examples=60)
@given(
    acts=ACTS,
    ttl=st.integers(4, 120),
    terms=st.floats(1.0, 12.0),
    renewable=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(acts=[("wait", 10.0), ("kill", 0.0), ("wait", 0.004), ("kill", 40.0)], ttl=30, terms=3, renewable=True, seed=1)
@example(acts=[("wait", 0.006), ("kill", 0.0), ("wait", 0.005), ("kill", 0.0)], ttl=9, terms=1, renewable=False, seed=2)
@example(acts=[("fetch", 0.0), ("token", 133.0), ("token", 50.0)], ttl=83, terms=2, renewable=True, seed=0)
def test_leases_are_kept_replaced_in_time_and_all_ended_whatever_happens(
    acts: list[Act], ttl: int, terms: float, renewable: bool, seed: int
) -> None:
    async def story() -> None:
        world = World.begun(Role(ttl=float(ttl), max_ttl=ttl * terms, renewable=renewable), seed)
        for what, much in acts:
            await world.act(what, much)
        await world.look_on(60.0)
        killed = any(what == "kill" for what, _ in acts)
        nothing_is_revoked_too_soon(world, killed)
        mints_have_a_reason(world)
        world.cancel()
        await asyncio.sleep(max(LINGER_S, SWEEP_S) + SETTLED_S + GRACE_S)
        ended(world)
        await world.agent.source.close()

    run(story())


@settings(deadline=None, max_examples=40)
@given(moment=st.integers(0, 40), ttl=st.integers(5, 60))
def test_an_agent_killed_at_any_moment_of_a_mint_mints_once_more_at_most(moment: int, ttl: int) -> None:
    async def story() -> None:
        world = World.begun(Role(ttl=float(ttl), max_ttl=1e9), 3)
        await asyncio.sleep(moment * ROUND_TRIP_S / 5)
        await world.agent.kill()
        await world.agent.start()
        world.watch()
        await world.look_on(ttl * 5.0)
        assert len(world.vault.made) <= 2
        shown = world.shown
        assert shown is not None
        unknown = [lease for lease in world.vault.live() if lease is not shown]
        assert not unknown, "a lease that nobody knows was kept alive"
        await world.agent.source.close()

    run(story())
