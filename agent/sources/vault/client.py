"""The door to Vault: everything that is asked of it goes through here, as whom it is asked for.

Logs in as needed, never for each read; keeps each identity's token alive; asks nothing while Vault is away.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from agent.credentials import Credentials
from agent.model import Safe
from agent.sources.vault.answers import Answer, Lease, Mount, TokenFacts
from agent.sources.vault.availability import Availability
from agent.sources.vault.events import VaultEvents
from agent.sources.vault.settings import VaultSettings
from agent.vault_ref import Identity

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class VaultClient:
    """One for the agent, on one event loop; made in a running loop, ended by `close`.

    Every method that asks Vault raises VaultError (a Refused), and nothing else but CancelledError.
    """

    availability: Availability

    def __init__(
        self,
        settings: VaultSettings,
        credentials: Credentials,
        safe: Safe,
        events: VaultEvents,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        raise NotImplementedError

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = NOTHING,
        query: Mapping[str, str] = NOTHING,
    ) -> Answer:
        """What is at the path of the API (without `/v1/`); with `parameters` they are written to it, and this is the
        answer.

        A 403 whose token has ended is asked once more with a new one. A 404 is VaultError NOT_FOUND, whose `answer`
        has what came with it.
        """
        raise NotImplementedError

    async def renew_lease(self, identity: Identity, lease_id: str, increment_s: int) -> Lease:
        """Let the lease live on; it may get less than it asked for. BAD_REQUEST where it is gone or not renewable."""
        raise NotImplementedError

    async def revoke_lease(self, identity: Identity, lease_id: str) -> None:
        """End the lease now. One that has ended already is no error; DENIED where the policy does not let it."""
        raise NotImplementedError

    async def mount_of(self, identity: Identity, path: str, *, fresh: bool = False) -> Mount:
        """The engine that serves the path; remembered for five minutes unless it is asked for `fresh`.

        DENIED where the token may read nothing below the mount, or there is no such mount: Vault does not tell.
        """
        raise NotImplementedError

    def token_facts(self, identity: Identity) -> TokenFacts | None:
        """What is known of its token; None before the first login (of this agent or, by the Safe, of one before)."""
        raise NotImplementedError

    def on_new_token(self, callback: Callable[[Identity, float], None]) -> None:
        """Call it when another token has taken the place of an identity's earlier one.

        Second argument: until when (seconds since the epoch) the earlier one, and so every lease that came with it,
        still lives; 0.0 where it is gone already. At least a third of its life is left where it was replaced because
        it could not be renewed any further.
        """
        raise NotImplementedError

    def identities(self) -> list[Identity]:
        """Whoever has a token, also from before a restart: `forget` those that nobody reads as any more."""
        raise NotImplementedError

    def forget(self, identity: Identity) -> None:
        """Nobody reads as it: its tokens, and with them all their leases, are revoked soon, also after an outage.

        Idempotent; reading as it again before that keeps the token.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Ask nothing more. Tokens live on, in Vault and in the Safe, for the agent that comes next."""
        raise NotImplementedError
