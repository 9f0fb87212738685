"""A door to Vault as the agent opens it, for tests: pods' tokens put in, what it tells written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.credentials import Credentials, PodToken, reader_of
from agent.model import PodRef, Safe
from agent.safe import MemorySafe
from agent.sources.vault.client import VaultClient
from agent.sources.vault.errors import VaultError
from agent.sources.vault.settings import VaultSettings
from agent.vault_ref import Identity
from kernelsecret.interceptor import VaultMethod
from tests.vault.harness.logins import AUDIENCE, JwtAuth
from tests.vault.harness.server import VaultServer

POD = PodRef("shop", "web-1", "0d6f3b1e-0000-4000-8000-000000000001", "web")
SUBJECT = "system:serviceaccount:shop:web"


@dataclass
class Heard:
    """Implements VaultEvents: what the door told."""

    errors: list[VaultError] = field(default_factory=list)
    downs: list[VaultError] = field(default_factory=list)
    ups: list[float] = field(default_factory=list)
    logins: list[tuple[Identity, bool]] = field(default_factory=list)
    failing: list[Exception] = field(default_factory=list)

    def failed(self, error: VaultError) -> None:
        self.errors.append(error)

    def went_down(self, error: VaultError) -> None:
        self.downs.append(error)

    def came_up(self, away_s: float) -> None:
        self.ups.append(away_s)

    def logged_in(self, identity: Identity, *, again: bool) -> None:
        self.logins.append((identity, again))

    def token_failing(self, identity: Identity, error: Exception) -> None:
        self.failing.append(error)


@dataclass
class Door:
    """One agent's door."""

    client: VaultClient
    credentials: Credentials
    safe: Safe
    heard: Heard

    def bring(self, token: str, pod: PodRef = POD, *, audience: str = AUDIENCE, lives_s: float = 600.0) -> None:
        """As kubelet brings a pod's token."""
        self.credentials.put(pod, {audience: PodToken(token, time.time() + lives_s)})


def identity(
    mount: str, role: str, *, method: VaultMethod = VaultMethod.JWT, pod: PodRef = POD, **more: str
) -> Identity:
    """Whom a pod reads as."""
    return Identity(method, mount, role, reader_of(pod), AUDIENCE, **more)


def settings_for(vault: VaultServer, **more: Any) -> VaultSettings:
    """As an admin would set the agent up for this server."""
    given: dict[str, Any] = {"address": vault.url, "ca_file": vault.ca_file} | more
    return VaultSettings(**given)


@asynccontextmanager
async def opened(settings: VaultSettings, *, safe: Safe | None = None, **more: Any) -> AsyncIterator[Door]:
    """A door; closed with the block."""
    credentials, heard = Credentials(), Heard()
    kept = safe if safe is not None else MemorySafe()
    client = VaultClient(settings, credentials, kept, heard, **more)
    try:
        yield Door(client, credentials, kept, heard)
    finally:
        await client.close()


async def in_time(what: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait until it holds; it is looked at each time that the loop has had a moment."""
    async with asyncio.timeout(within_s):
        while not what():  # noqa: ASYNC110 - what is waited for is Vault's, which has no event of ours
            await asyncio.sleep(0.01)


async def refused(asked: Awaitable[Any]) -> VaultError:
    """The error that it ends with."""
    try:
        await asked
    except VaultError as error:
        return error
    raise AssertionError("nothing was refused")


def role(vault: VaultServer, jwt: JwtAuth, name: str, *rules: str, **settings: Any) -> Identity:
    """A role of the pod's account that may do what the rules say; who reads with it."""
    jwt.add_role(name, SUBJECT, vault.policy(*rules), **settings)
    return identity(jwt.mount, name)


def written(folder: Path, name: str, content: bytes | str) -> Path:
    """A file, replaced as a whole."""
    path, new = folder / name, folder / f".{name}.new"
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.replace(path)
    return path
