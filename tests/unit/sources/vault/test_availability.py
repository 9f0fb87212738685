"""The gate before Vault: what closes it, who looks meanwhile, and that recovery is never far away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agent.sources.vault import availability
from agent.sources.vault.availability import Availability
from agent.sources.vault.errors import Kind, VaultError
from tests.unit.sources.vault_events import Silence

SEALED = VaultError(Kind.SEALED, "Vault", "it is sealed", certain=True)


@dataclass
class Scene(Silence):
    """A gate, and a Vault that is what the test says. Time stands still unless it is moved."""

    problem: VaultError | None = None
    looks: int = 0
    now: float = 100.0
    downs: list[VaultError] = field(default_factory=list)
    ups: list[float] = field(default_factory=list)

    def went_down(self, error: VaultError) -> None:
        self.downs.append(error)

    def came_up(self, away_s: float) -> None:
        self.ups.append(away_s)

    async def look(self) -> VaultError | None:
        self.looks += 1
        await asyncio.sleep(0)
        return self.problem

    @asynccontextmanager
    async def gate(self) -> AsyncIterator[Availability]:
        made = Availability(self.look, self, clock=lambda: self.now, chance=lambda: 0.0)
        try:
            yield made
        finally:
            await made.close()


async def until(what: Callable[[], object]) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(availability, "PROBE_S", 0.002)
    return Scene()


async def test_what_proves_an_outage_closes_it_once(scene: Scene) -> None:
    async with scene.gate() as gate:
        await gate.require()
        scene.problem = SEALED
        for _ in range(1000):
            gate.lost(SEALED, scene.now)
        assert not gate.is_up
        assert gate.problem is SEALED
        assert scene.downs == [SEALED]
        with pytest.raises(VaultError) as met:
            await gate.require()
        assert met.value is SEALED


async def test_it_opens_by_itself_and_tells_all_who_wait_once(scene: Scene) -> None:
    async with scene.gate() as gate:
        told: list[str] = []
        gate.on_up(lambda: told.append("one"))
        leave = gate.on_up(lambda: told.append("two"))
        leave()
        leave()
        scene.problem = SEALED
        gate.lost(SEALED, scene.now)
        waiting = [asyncio.create_task(gate.wait_up()) for _ in range(10)]
        scene.now, scene.problem = 400.0, None
        await asyncio.wait_for(asyncio.gather(*waiting), 5)
        assert gate.is_up
        assert told == ["one"]
        assert scene.ups == [300.0]


async def test_however_long_it_is_away_it_is_looked_for_as_often(scene: Scene) -> None:
    async with scene.gate() as gate:
        scene.problem = SEALED
        gate.lost(SEALED, scene.now)
        await until(lambda: scene.looks >= 100)
        assert scene.downs == [SEALED]


async def test_a_doubt_closes_nothing_unless_the_look_confirms_it(scene: Scene) -> None:
    async with scene.gate() as gate:
        for _ in range(100):
            gate.doubt()
        assert gate.is_up
        await until(lambda: scene.looks)
        assert gate.is_up
        assert scene.looks == 1
        scene.now, scene.problem = 101.0, SEALED
        gate.doubt()
        await until(lambda: scene.downs)
        assert scene.downs == [SEALED]


async def test_who_asks_again_looks_first_but_not_more_often_than_needed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "PROBE_S", 3600.0)
    async with scene.gate() as gate:
        scene.problem = SEALED
        gate.lost(SEALED, scene.now)
        asked = await asyncio.gather(*(gate.require() for _ in range(50)), return_exceptions=True)
        assert asked == [SEALED] * 50
        assert scene.looks == 1
        with pytest.raises(VaultError):
            await gate.require()
        assert scene.looks == 1
        scene.now, scene.problem = 101.0, None
        await gate.require()
        assert gate.is_up


async def test_news_of_the_last_outage_are_only_a_doubt(scene: Scene) -> None:
    async with scene.gate() as gate:
        scene.problem = SEALED
        gate.lost(SEALED, 100.0)
        scene.now, scene.problem = 200.0, None
        await asyncio.wait_for(gate.wait_up(), 5)
        gate.lost(SEALED, 150.0)
        assert gate.is_up


async def test_who_gives_up_waiting_does_not_end_the_look_of_others(scene: Scene) -> None:
    async with scene.gate() as gate:
        scene.problem = SEALED
        gate.lost(SEALED, scene.now)
        first, second = asyncio.ensure_future(gate.require()), asyncio.ensure_future(gate.require())
        await asyncio.sleep(0)
        first.cancel()
        scene.problem = None
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.wait_for(second, 5)
        assert gate.is_up
