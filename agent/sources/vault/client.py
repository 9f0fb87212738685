"""The door to Vault: everything that is asked of it goes through here, as whom it is asked for.

Logs in as needed, never for each read; keeps each identity's token alive; asks nothing while Vault is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from agent.credentials import Credentials
from agent.model import Safe
from agent.sources.vault.answers import Answer, Lease, Mount, TokenFacts, answer, body_of
from agent.sources.vault.availability import Availability
from agent.sources.vault.bridge import Bridge
from agent.sources.vault.errors import VaultError
from agent.sources.vault.events import VaultEvents
from agent.sources.vault.health import look
from agent.sources.vault.keeper import Room
from agent.sources.vault.login import Logins, has_ended
from agent.sources.vault.mounts import Mounts
from agent.sources.vault.replies import opened, outage, refusal, words_of
from agent.sources.vault.reply_parser import Reply
from agent.sources.vault.request import Request, api_path
from agent.sources.vault.settings import VaultSettings
from agent.sources.vault.token_record import Held
from agent.sources.vault.tokens import Tokens
from agent.sources.vault.wire import Wire
from agent.vault_ref import Identity

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
IN_FLIGHT: Final = 32
"""Requests that are under way at a time, however many secrets there are."""
LATE_S: Final = 2.0
"""An answer that takes longer is a reason to look whether Vault serves, and not waited for any more when it is back."""
RENEW: Final = "sys/leases/renew"
REVOKE: Final = "sys/leases/revoke"
MOUNTS: Final = "sys/internal/ui/mounts"


class VaultClient:
    """One for the agent, on one event loop; made in a running loop, ended by `close`.

    Every method that asks Vault raises VaultError (a Refused), and nothing else but CancelledError.
    """

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
        self._events = events
        self._clock = clock
        self._wire = Wire(settings, clock)
        self._where = self._wire.where
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._mounts = Mounts(clock)
        self.availability: Final = Availability(lambda: look(self._wire), events, clock=clock, chance=chance)
        self.availability.on_up(lambda: self._wire.give_up(LATE_S))
        self._bridge = Bridge(self._send)
        logins = Logins(settings, credentials, self._bridge, self.availability.require, self._where)
        room = Room(settings.base, logins, safe, events, self.availability, wall_clock, chance)
        self._tokens = Tokens(room, credentials)

    async def read(
        self,
        identity: Identity,
        path: str,
        *,
        parameters: Mapping[str, str] = NOTHING,
        query: Mapping[str, str] = NOTHING,
        once: bool = False,
    ) -> Answer:
        """What is at the path of the API (without `/v1/`); with `parameters` they are written to it, and this is the
        answer. `once`: each question makes new credentials, so it is not repeated where no answer came.

        A 403 whose token has ended is asked once more with a new one. A 404 is VaultError NOT_FOUND, whose `answer`
        has what came with it.
        """
        method, body = ("PUT", body_of(parameters)) if parameters else ("GET", None)
        hide = tuple(parameters.values())
        return await self._ask(identity, method, path, api_path(path, query), body, hide, once=once)

    async def renew_lease(self, identity: Identity, lease_id: str, increment_s: int) -> Lease:
        """Let the lease live on; it may get less than it asked for. BAD_REQUEST where it is gone or not renewable."""
        body = body_of({"lease_id": lease_id, "increment": increment_s})
        answer = await self._ask(identity, "PUT", RENEW, f"/v1/{RENEW}", body, (lease_id,))
        return Lease(answer.lease_id, answer.lease_s, answer.renewable, answer.warnings)

    async def revoke_lease(self, identity: Identity, lease_id: str) -> None:
        """End the lease now. One that has ended already is no error; DENIED where the policy does not let it."""
        await self._ask(
            identity, "PUT", REVOKE, f"/v1/{REVOKE}", body_of({"lease_id": lease_id, "sync": True}), (lease_id,)
        )

    async def mount_of(self, identity: Identity, path: str, *, fresh: bool = False) -> Mount:
        """The engine that serves the path; remembered for five minutes unless it is asked for `fresh`.

        DENIED where the token may read nothing below the mount, or there is no such mount: Vault does not tell.
        """
        if not fresh and (known := self._mounts.find(identity.namespace, path)) is not None:
            return known
        asked = f"{MOUNTS}/{path}"
        return self._mounts.learn(identity.namespace, await self._ask(identity, "GET", asked, api_path(asked, NOTHING)))

    def token_facts(self, identity: Identity) -> TokenFacts | None:
        """What is known of its token; None before the first login (of this agent or, by the Safe, of one before)."""
        return self._tokens.facts(identity)

    def on_new_token(self, callback: Callable[[Identity, float], None]) -> None:
        """Call it when another token has taken the place of an identity's earlier one.

        Second argument: until when (seconds since the epoch) the earlier one, and so every lease that came with it,
        still lives; 0.0 where it is gone already. At least a quarter of its life is left where it was replaced because
        it could not be renewed any further.
        """
        self._tokens.on_new_token(callback)

    def identities(self) -> list[Identity]:
        """Whoever has a token, also from before a restart: `forget` those that nobody reads as any more."""
        return self._tokens.identities()

    def forget(self, identity: Identity) -> None:
        """Nobody reads as it: its tokens, and with them all their leases, are revoked soon, also after an outage.

        Idempotent. To read as it again later logs in anew.
        """
        self._tokens.forget(identity)

    async def left(self) -> None:
        """Wait until the tokens of all that are forgotten are revoked, however long Vault is away."""
        await self._tokens.left()

    async def close(self) -> None:
        """Ask nothing more. Tokens live on, in Vault and in the Safe, for the agent that comes next."""
        await self._tokens.close()
        self._bridge.close()
        await self.availability.close()
        await self._wire.close()

    async def _ask(
        self,
        identity: Identity,
        method: str,
        path: str,
        sent: str,
        body: bytes | None = None,
        hide: tuple[str, ...] = (),
        *,
        once: bool = False,
    ) -> Answer:
        def asked(held: Held) -> Request:
            return Request(method, sent, held.token, identity.namespace, body, once)

        try:
            held = await self._tokens.current(identity)
            reply = await self._send(asked(held))
            if reply.status == 403 and has_ended(403, words_of(reply)):
                held = await self._tokens.another(identity, held)
                reply = await self._send(asked(held))
            if 200 <= reply.status < 300:
                return answer(path, opened(reply, self._where), held.name)
            hidden = (*hide, held.token)
            raise refusal(reply, self._where, path, str(identity), wrote=body is not None, hide=hidden)
        except VaultError as error:
            if error is not self.availability.problem:
                self._events.failed(error)
            error.counted = True
            raise

    async def _send(self, request: Request) -> Reply:
        """The answer, within the bound on what is under way, and only while Vault serves."""
        availability = self.availability
        await availability.require()
        async with self._slots:
            if (problem := availability.problem) is not None:
                raise problem.with_traceback(None)
            begun = self._clock()
            late = asyncio.get_running_loop().call_later(LATE_S, availability.doubt)
            try:
                reply = await self._wire.ask(request)
            except VaultError as error:
                self._met(error, begun)
                raise
            finally:
                late.cancel()
        if reply.status >= 472 and (problem := outage(reply, self._where)) is not None:
            self._met(problem, begun)
        return reply

    def _met(self, error: VaultError, begun: float) -> None:
        if error.certain:
            self.availability.lost(error, begun)
        elif error.is_away:
            self.availability.doubt()
