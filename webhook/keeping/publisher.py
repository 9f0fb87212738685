"""Publishes what is to be trusted where its readers look: the agents' ConfigMap and the API server's configurations."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

from apiclient import paths
from apiclient.client import ApiClient
from certs.keys import KeyState
from kernelsecret.errors import Code, Refused
from kernelsecret.names import TRUST_OBJECT
from telemetry.logkeys import Event
from telemetry.logs import get_logger
from webhook.keeping.objects import configuration_body, trust_body

log = get_logger("keeping")


class Published(Enum):
    """What one look at everything found."""

    EVERYWHERE = auto()
    WRITTEN = auto()
    """It was not everywhere, and was written; look again."""
    AWAITED = auto()
    """A configuration is not there yet. It is others who make it."""


class Publisher:
    """Repairs what differs. Everything is read from the API server itself at each call: what counts is what it has."""

    def __init__(self, client: ApiClient, namespace: str, configuration: str) -> None:
        self._client = client
        self._namespace = namespace
        self._trust = paths.config_map(namespace, TRUST_OBJECT)
        self.configurations = (
            paths.mutating_configuration(configuration),
            paths.validating_configuration(configuration),
        )

    async def publish(self, state: KeyState, now: datetime) -> Published:
        """Read all, write what differs. Raises ApiError, with 409 where somebody else wrote in between."""
        trust = state.trust(now)
        found = await self.read(self._trust)
        written = await self._write(self._trust, found, trust_body(found, self._namespace, trust))
        awaited = False
        for path in self.configurations:
            found = await self.read(path)
            if found is None:
                awaited = True
            else:
                written |= await self._write(path, found, configuration_body(found, trust.authorities))
        if written:
            return Published.WRITTEN
        return Published.AWAITED if awaited else Published.EVERYWHERE

    async def read(self, path: str) -> bytes | None:
        """An object as the API server has it now, None where it has none."""
        try:
            return await self._client.get(path)
        except Refused as refused:
            if refused.code is not Code.NOT_FOUND:
                raise
            return None

    async def _write(self, path: str, found: bytes | None, wanted: bytes | None) -> bool:
        if wanted is None:
            return False
        if found is None:
            await self._client.create(paths.config_maps(self._namespace), wanted)
        else:
            await self._client.replace(path, wanted)
        log.info(Event.TRUST_PUBLISHED, object=path)
        return True
