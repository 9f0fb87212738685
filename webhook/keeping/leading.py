"""What the leader alone does: makes the keys, publishes them, and changes them when it is time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from apiclient import paths
from apiclient.backoff import Backoff
from apiclient.client import ApiClient
from apiclient.errors import ApiError
from apiclient.reflector import Reflector
from certs.document import state_of
from certs.keys import KeyState
from certs.rotation import Policy, first_state, next_state
from kernelsecret.errors import Refused
from kernelsecret.names import KEYS_OBJECT, TRUST_OBJECT
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem
from webhook.keeping.objects import keys_body, read_keys
from webhook.keeping.publisher import Published, Publisher

EVERY_S: Final = 60.0
"""How often all is looked at when nothing is heard: times come, and a watch may be deaf."""

log = get_logger("keeping")


class Leading:
    """One term of leadership. Every write carries the resource version of what it was decided by, so that a leader who
    does not know yet that another has taken over changes nothing.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        configuration: str,
        policy: Policy,
        clock: Callable[[], datetime],
        news: asyncio.Event,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._policy = policy
        self._clock = clock
        self._news = news
        self._publisher = Publisher(client, namespace, configuration)
        self._keys = paths.secret(namespace, KEYS_OBJECT)
        self._configuration = configuration
        self.problem: Refused | None = None
        """Why the last round did not do all that it should; None where it did."""
        self.is_resting = False
        """Whether the last round found nothing to do, and news are awaited."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._watches():
                tasks.create_task(reflector.run())
            await self._rounds()

    async def _rounds(self) -> None:
        # Also between rounds that changed something, should somebody else insist on writing otherwise.
        backoff = Backoff(first_s=0.02, longest_s=30.0)
        while True:
            self._news.clear()
            if await self._tried():
                await asyncio.sleep(backoff.next_s())
                continue
            backoff.reset()
            self.is_resting = True
            # Not wait_for: when the news comes with the end of the term, it loses the end (Python 3.11).
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._news.wait()
            self.is_resting = False

    async def _tried(self) -> bool:
        """Whether there is more to do soon."""
        try:
            again = await self.round()
        except Refused as refused:
            is_race = isinstance(refused, ApiError) and refused.status == 409
            if not is_race:
                if str(refused) != str(self.problem):
                    log.error(Event.KEEPING_FAILED, **problem(refused))
                self.problem = refused
            return True
        self.problem = None
        return again

    async def round(self) -> bool:
        """Do what is due now; whether anything was changed. Raises Refused, with status 409 where another was first.

        Keys that cannot be read are never replaced.
        """
        now = self._clock()
        raw = await self._publisher.read(self._keys)
        found = read_keys(raw) if raw is not None else None
        if found is None or not found.data:
            await self._write(raw, first_state(now, self._policy))
            return True
        state = state_of(found.data)
        published = await self._publisher.publish(state, now)
        after = next_state(state, now, self._policy, published=published is Published.EVERYWHERE)
        if after is not None:
            await self._write(raw, after)
        return after is not None or published is Published.WRITTEN

    async def _write(self, raw: bytes | None, state: KeyState) -> None:
        body = keys_body(raw, self._namespace, state)
        if raw is None:
            await self._client.create(paths.secrets(self._namespace), body)
        else:
            await self._client.replace(self._keys, body)
        log.info(Event.KEYS_CHANGED, keys=len(state.signing_keys), count=len(state.authorities))

    def _watches(self) -> list[Reflector[str]]:
        """Of the objects that others may change: each change is news."""
        watched = [(paths.config_maps(self._namespace), TRUST_OBJECT)]
        watched += [(path.rpartition("/")[0], self._configuration) for path in self._publisher.configurations]
        return [
            Reflector(
                self._client,
                collection,
                bytes.decode,
                key=str,
                selectors=paths.only(name),
                on_change=lambda *_: self._news.set(),
            )
            for collection, name in watched
        ]
