"""The source of Vault as the agent has it, over a real Vault, with observers that can be waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from agent.model import PodRef, Safe, SecretRef, SecretVersion
from agent.sources.vault.settings import VaultSettings
from agent.sources.vault.source import VaultSource
from agent.vault_ref import vault_ref
from kernelsecret.interceptor import VaultAuth, VaultMethod
from kernelsecret.interceptor import VaultSource as Spec
from tests.vault.doors import POD, Door, opened, settings_for
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.server import VaultServer

BOUND_S = 20.0


class Observer:
    """Keeps what it hears; each wait is bounded."""

    def __init__(self) -> None:
        self.versions: list[SecretVersion] = []
        self.failures: list[str] = []
        self.at: list[float] = []
        self._news = asyncio.Event()

    def changed(self, version: SecretVersion) -> None:
        self.versions.append(version)
        self.at.append(time.monotonic())
        self._news.set()

    def failed(self, ref: SecretRef, problem: str) -> None:
        self.failures.append(problem)
        self._news.set()

    async def until(self, condition: Callable[[], bool], within_s: float = BOUND_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def value(self, key: str, value: str) -> SecretVersion:
        """The version, once the key has this value."""
        await self.until(lambda: bool(self.versions) and self.versions[-1].values.get(key) == value.encode())
        return self.versions[-1]

    async def failure(self, text: str) -> str:
        """The problem, once it speaks of this."""
        await self.until(lambda: bool(self.failures) and text in self.failures[-1])
        return self.failures[-1]

    async def more(self, than: int) -> SecretVersion:
        """The newest version, once there are more than so many."""
        await self.until(lambda: len(self.versions) > than)
        return self.versions[-1]


@dataclass
class Sourced:
    """One agent's source, and the door behind it."""

    source: VaultSource
    door: Door

    def watch(self, ref: SecretRef) -> Observer:
        observer = Observer()
        self.source.watch(ref, observer)
        return observer


def pod_of(account: str) -> PodRef:
    """A pod with an account of its own."""
    return replace(
        POD, name=f"{account}-1", uid=f"0d6f3b1e-0000-4000-8000-{hash(account) % 10**12:012d}", service_account=account
    )


def subject(account: str) -> str:
    return f"system:serviceaccount:{POD.namespace}:{account}"


def ref_of(jwt: JwtAuth, role: str, path: str, *, account: str = POD.service_account, **more: Any) -> SecretRef:
    """What a pod of the account reads as a role."""
    auth = VaultAuth(method=VaultMethod.JWT, mount=jwt.mount)
    return vault_ref(Spec(path=path, role=role, auth=auth, **more), POD.namespace, account)


@asynccontextmanager
async def agent(
    vault: VaultServer | VaultSettings,
    jwt: JwtAuth,
    *accounts: str,
    safe: Safe | None = None,
    pace_s: float = 1.0,
    **more: Any,
) -> AsyncIterator[Sourced]:
    """An agent's source with live tokens of pods of these accounts. Ended with the block: tokens and leases live on."""
    settings = vault if isinstance(vault, VaultSettings) else settings_for(vault)
    async with opened(settings, safe=safe) as door:
        for account in accounts or (POD.service_account,):
            door.bring(jwt.token(subject(account)), pod_of(account))
        source = VaultSource(door.client, door.safe, lambda ref: pace_s, **more)
        try:
            yield Sourced(source, door)
        finally:
            await source.close()


async def blocking(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What would keep the loop waiting, done beside it."""
    return await asyncio.to_thread(partial(work, *arguments, **named))
