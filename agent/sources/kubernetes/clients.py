"""One client for each account that reads: its requests carry that account's token, and nothing else of anybody's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.credentials import Credentials
from apiclient.client import ApiClient
from apiclient.connection import Connection, without_identity
from kernelsecret.errors import Code, Refused

AUDIENCE = ""
"""The API server's own: kubelet brings such a token where the CSIDriver asks for the audience ""."""
MOST_READERS = 512
"""Accounts that are read as at a time; a node has fewer pods."""
MOST_CONNECTIONS = 1024
"""Of one client: each watch holds one, and the source bounds watches."""
USER_AGENT = "kernelsecret-agent"


@dataclass(slots=True)
class _Held:
    client: ApiClient
    users: int = 0


class Clients:
    """Hands clients out by reader, and closes each when its last user has given it back."""

    def __init__(self, connection: Connection, credentials: Credentials) -> None:
        """`connection` is the agent's own, which is used as it is for the reader ""."""
        self._own = connection
        self._anybody = without_identity(connection)
        self._credentials = credentials
        self._held: dict[str, _Held] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, reader: str) -> ApiClient:
        """The reader's client, until it is given back. Raises Refused where there are too many."""
        held = self._held.get(reader)
        if held is None:
            if len(self._held) >= MOST_READERS:
                why = f"{MOST_READERS} accounts are read as at this node, which is the most"
                raise Refused(Code.RESOURCE_EXHAUSTED, "kubernetes", why, "move pods to another node")
            held = self._held[reader] = _Held(self._made(reader))
        held.users += 1
        return held.client

    def give_back(self, reader: str) -> None:
        """One user less. Needs a running loop."""
        held = self._held[reader]
        held.users -= 1
        if held.users == 0:
            del self._held[reader]
            task = asyncio.get_running_loop().create_task(held.client.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Wait until all that was given back is closed."""
        await asyncio.gather(*self._closing)

    def _made(self, reader: str) -> ApiClient:
        if not reader:
            return ApiClient(self._own, user_agent=USER_AGENT, connections=MOST_CONNECTIONS)

        def token() -> str:
            return self._credentials.token(reader, AUDIENCE).token

        return ApiClient(self._anybody, user_agent=USER_AGENT, token=token, connections=MOST_CONNECTIONS)
