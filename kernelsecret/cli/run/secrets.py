"""The secrets of one command: by the agent's own sources, each read once for all variables that are keys of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.model import SecretRef, SecretVersion, Source
from agent.safe import MemorySafe
from agent.sources.file import FileSource
from kernelsecret.cli.run.login import Login, in_our_words
from kernelsecret.cli.run.references import FILE, VAULT, Reference, folders
from kernelsecret.cli.run.telling import Telling
from kernelsecret.errors import Refused
from kernelsecret.problems import quoted

if TYPE_CHECKING:
    from agent.sources.vault.client import VaultClient
    from agent.sources.vault.source import VaultSource

_THE_PATH: Final = "source.vault.path"
"""What a refusal names where it is the reference that is wrong, which is named anyway."""
END_S: Final = 5.0
"""For the revocation of leases and tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Secret:
    """One secret and the variables that show keys of it."""

    source: Source
    ref: SecretRef
    references: list[Reference] = field(default_factory=list)

    def lacking(self, version: SecretVersion) -> dict[str, str]:
        """Variables whose keys it has not, and a sentence for each."""
        has = ", ".join(quoted(key) for key in sorted(version.values))
        return {
            one.name: f"{one.name} ({one}): there is no key {quoted(one.key)}; there is {has}"
            for one in self.references
            if one.key not in version.values
        }

    @property
    def names(self) -> str:
        """For people."""
        return ", ".join(one.name for one in self.references)

    def said(self, error: Refused) -> str:
        """A refusal of the source, for who knows variables and references."""
        where = "" if error.field in (str(self.ref), _THE_PATH) else f"{error.field}: "
        text = f"{where}{error.why}" + (f"; {error.fix}" if error.fix else "")
        return f"{self.names} ({self.references[0]}): {in_our_words(text)}"


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one secret: its version, and a sentence for each variable that is not in it."""

    secret: Secret
    version: SecretVersion | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


class Secrets:
    """All of them. Used in one event loop; ended by `close`."""

    def __init__(self, found: Sequence[Reference], login: Login | None, poll_s: float, telling: Telling) -> None:
        """`login` is there where a reference is one to Vault."""
        self._closing = AsyncExitStack()
        self._client: VaultClient | None = None
        self._vault: VaultSource | None = None
        self.all: tuple[Secret, ...] = ()
        secrets = self._files(found)
        if login is not None:
            from agent.sources.vault.client import VaultClient
            from agent.sources.vault.source import VaultSource

            safe = MemorySafe()
            self._client = client = VaultClient(login.settings, login.credentials, safe, telling)
            self._vault = VaultSource(client, safe, lambda ref: poll_s)
            self._closing.push_async_callback(client.close)
            self._closing.push_async_callback(self._vault.close)
            by_ref: dict[SecretRef, Secret] = {}
            for one in found:
                if one.scheme == VAULT:
                    ref = login.ref(one)
                    by_ref.setdefault(ref, Secret(self._vault, ref)).references.append(one)
            secrets += by_ref.values()
        self.all = tuple(secrets)

    async def fetch(self) -> list[Found]:
        """The current version of each, side by side."""
        return list(await asyncio.gather(*(self._fetched(secret) for secret in self.all)))

    def all_read(self, secret: Secret, label: str) -> None:
        """Nobody uses an earlier version any more: its lease may end."""
        secret.source.all_read(secret.ref, label)

    async def close(self, within_s: float = END_S) -> str:
        """Revoke what was made for this command, and ask nothing more. Why that did not all come off, or nothing."""
        lacking = ""
        try:
            async with asyncio.timeout(within_s):
                if self._vault is not None and self._client is not None:
                    await self._vault.end()
                    await self._client.left()
        except TimeoutError:
            lacking = f"not all leases could be revoked within {within_s:g} s; they end by themselves at their TTL"
        await self._closing.aclose()
        return lacking

    def _files(self, found: Sequence[Reference]) -> list[Secret]:
        """A source for each folder that holds the folders of files: what is above it may be a link."""
        wanted = folders(found)
        sources: dict[Path, FileSource] = {}
        secrets: dict[str, Secret] = {}
        for one in (one for one in found if one.scheme == FILE):
            folder = Path(one.path)
            if folder.parent not in sources:
                only = {Path(path).name: keys for path, keys in wanted.items() if Path(path).parent == folder.parent}
                sources[folder.parent] = source = FileSource(folder.parent, only)
                self._closing.push_async_callback(source.close)
            ref = SecretRef(FILE, folder.name)
            secrets.setdefault(one.path, Secret(sources[folder.parent], ref)).references.append(one)
        return list(secrets.values())

    async def _fetched(self, secret: Secret) -> Found:
        try:
            version = await secret.source.fetch(secret.ref)
        except Refused as refusal:
            return Found(secret, problems=dict.fromkeys((one.name for one in secret.references), secret.said(refusal)))
        return Found(secret, version, secret.lacking(version))


def problems_of(found: Iterable[Found]) -> list[str]:
    """Each sentence once."""
    return list(dict.fromkeys(problem for one in found for problem in one.problems.values()))
