"""The source over a Vault of rules, in time that passes at once (tests.unit.apiclient.virtual)."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from agent.model import SecretRef, SecretVersion
from agent.safe import MemorySafe
from agent.sources.vault.source import VaultSource
from agent.vault_ref import vault_ref
from kernelsecret.interceptor import VaultSource as Spec
from tests.unit.apiclient import virtual

if TYPE_CHECKING:
    from tests.unit.sources.vault_source.fake_vault import FakeVault

T = TypeVar("T")
P = ParamSpec("P")
EPOCH_S = 1_800_000_000.0


def run(story: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end, however many hours that takes; a task that failed unheard is a failure."""
    unheard: list[dict[str, Any]] = []

    async def heard() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        return await story

    result = virtual.run(heard())
    assert not unheard, unheard
    return result


def in_made_time(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test that runs this story."""

    @functools.wraps(story)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(story(*args, **kwargs))

    return test


def now() -> float:
    """Seconds since the story began."""
    return asyncio.get_running_loop().time()


def wall() -> float:
    """Seconds since the epoch."""
    return EPOCH_S + now()


def ref_of(path: str, *, account: str = "app", version: int = 0, **parameters: str) -> SecretRef:
    """What a pod of payments/ACCOUNT reads at a path."""
    return vault_ref(Spec(path=path, role="payments", version=version, parameters=parameters), "payments", account)


class Observer:
    """Keeps what it hears, with when."""

    def __init__(self) -> None:
        self.versions: list[SecretVersion] = []
        self.failures: list[str] = []
        self.heard: list[tuple[float, str]] = []

    def changed(self, version: SecretVersion) -> None:
        self.versions.append(version)
        self.heard.append((now(), version.label))

    def failed(self, ref: SecretRef, problem: str) -> None:
        self.failures.append(problem)
        self.heard.append((now(), "failed"))

    @property
    def value(self) -> bytes | None:
        """Of the key `password`, as last told."""
        return self.versions[-1].values.get("password") if self.versions else None


class Agent:
    """A source in an agent that can be killed: another one is then made over the same safe. `async with` closes it."""

    def __init__(
        self, vault: FakeVault, *, pace: Callable[[SecretRef], float] = lambda ref: 1.0, seed: int = 1
    ) -> None:
        self.vault, self.safe = vault, MemorySafe()
        self._pace, self._random = pace, random.Random(seed)
        self.source = self._made()

    def _made(self) -> VaultSource:
        return VaultSource(self.vault, self.safe, self._pace, wall_clock=wall, chance=self._random.random)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.close()

    async def kill(self) -> None:
        """As kill -9: nothing is finished, and what is in the safe now is what another agent finds."""
        found = {name: self.safe.get(name) or b"" for name in self.safe.names()}
        _abandon(self.source)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.safe = MemorySafe()
        for name, blob in found.items():
            self.safe.put(name, blob)

    async def start(self) -> None:
        """Another agent."""
        self.vault.reborn()
        self.source = self._made()


def _abandon(source: VaultSource) -> None:
    source._closed = source._lanes._polls._closed = source._lanes._credentials._closed = True
    source._sweeping.cancel()
    for watched in source._all:
        for subscription in watched.subscriptions:
            subscription.active = False
