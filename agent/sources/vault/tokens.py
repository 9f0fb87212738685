"""The tokens of all identities: one each, also over a restart of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent.credentials import Credentials
from agent.sources.vault.answers import TokenFacts
from agent.sources.vault.keeper import Keeper, Room
from agent.sources.vault.token_record import PREFIX, Held, Record, facts_of, safe_name, unpacked
from agent.vault_ref import Identity

_CLOSE_S: Final = 2.0
"""For logins that are under way when the agent stops: a token that was given and not kept would live on unused."""


class Tokens:
    """Use it on one event loop."""

    def __init__(self, room: Room, credentials: Credentials) -> None:
        self._room = room
        self._keepers: dict[Identity, Keeper] = {}
        self._leaving: dict[Identity, asyncio.Task[None]] = {}
        credentials.on_put(self._credential_came)

    async def current(self, identity: Identity) -> Held:
        """The identity's token; logs in where there is none. Raises VaultError."""
        if (leaving := self._leaving.get(identity)) is not None:
            await self._room.availability.require()
            await asyncio.shield(leaving)
        return await self._keeper(identity).current()

    async def another(self, identity: Identity, ended: Held) -> Held:
        """One that is not `ended`, which Vault does not know any more. Raises VaultError."""
        return await self._keeper(identity).another(ended)

    def facts(self, identity: Identity) -> TokenFacts | None:
        """What people may know of its token."""
        if (keeper := self._keepers.get(identity)) is not None:
            return keeper.facts
        # Nobody has read as it yet since the restart: it is told of, and not kept alive for that.
        record = None if identity in self._leaving else self._restored(identity)
        return facts_of(record.held) if record and record.held else None

    def on_new_token(self, callback: Callable[[Identity, float], None]) -> None:
        """See VaultClient."""
        self._room.new_token.append(callback)

    def identities(self) -> list[Identity]:
        """Whoever has a token, also from before a restart."""
        found = set(self._keepers)
        for name in self._room.safe.names():
            if not name.startswith(PREFIX):
                continue
            record = unpacked(self._room.safe.get(name) or b"")
            if record is None or record.address != self._room.address:
                self._room.safe.drop(name)  # of another Vault, which this agent does not speak to any more
            elif record.identity not in self._leaving:
                found.add(record.identity)
        return sorted(found)

    def forget(self, identity: Identity) -> None:
        """See VaultClient."""
        if identity in self._leaving or (identity not in self._keepers and self._restored(identity) is None):
            return
        keeper = self._keeper(identity)
        del self._keepers[identity]
        task = asyncio.get_running_loop().create_task(keeper.revoke_all())
        self._leaving[identity] = task
        task.add_done_callback(lambda done: self._left(identity, done))

    async def left(self) -> None:
        """Wait until the tokens of all that are forgotten are revoked."""
        while self._leaving:
            await asyncio.wait(tuple(self._leaving.values()))
            await asyncio.sleep(0)  # who is done takes itself out

    async def close(self) -> None:
        """Keep nothing alive any longer."""
        logins = [login for keeper in self._keepers.values() if (login := keeper.stop()) is not None]
        if logins:
            await asyncio.wait(logins, timeout=_CLOSE_S)
        for keeper in self._keepers.values():
            keeper.stop()
        ending = [*self._leaving.values(), *logins]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _keeper(self, identity: Identity) -> Keeper:
        found = self._keepers.get(identity)
        if found is None:
            found = self._keepers[identity] = Keeper(identity, self._room, self._restored(identity))
        return found

    def _restored(self, identity: Identity) -> Record | None:
        blob = self._room.safe.get(safe_name(self._room.address, identity))
        return unpacked(blob) if blob is not None else None

    def _credential_came(self, reader: str) -> None:
        for identity, keeper in self._keepers.items():
            if identity.reader == reader:
                keeper.credential_came()

    def _left(self, identity: Identity, done: asyncio.Task[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._room.events.token_failing(identity, error if isinstance(error, Exception) else RuntimeError())
        self._leaving.pop(identity, None)
