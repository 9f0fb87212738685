"""The sources that this agent has, by its settings. What only one of them needs is imported where it is opened: an
agent without Vault does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from agent.credentials import Credentials
from agent.model import Safe, SecretRef, Source
from agent.settings import Settings
from agent.sources.file import FileSource
from agent.sources.vault.settings import VaultSettings
from agent.teller import Teller
from agent.telling import Telling
from apiclient.connection import Connection
from telemetry.logkeys import Event
from telemetry.logs import get_logger

Pace = Callable[[SecretRef], float]

log = get_logger("agent")


def open_sources(
    settings: Settings,
    connection: Connection | None,
    credentials: Credentials,
    safe: Safe,
    pace: Pace,
    telling: Telling,
    teller: Teller,
    closing: AsyncExitStack,
) -> dict[str, Source]:
    """Each by its name, in a running loop. `connection` is the agent's own to the API server, where it has one."""
    sources: list[Source] = [FileSource(settings.file_source_dir)]
    if (vault := settings.vault()) is not None:
        sources.append(_vault(vault, credentials, safe, pace, telling, closing))
    if connection is not None:
        sources.append(_kubernetes(connection, credentials, pace, telling, teller))
    for source in sources:
        closing.push_async_callback(source.close)
    return {source.name: source for source in sources}


def _vault(
    settings: VaultSettings,
    credentials: Credentials,
    safe: Safe,
    pace: Pace,
    telling: Telling,
    closing: AsyncExitStack,
) -> Source:
    from agent.sources.vault.client import VaultClient
    from agent.sources.vault.source import VaultSource
    from agent.vault_telling import VaultTelling

    events = VaultTelling(telling)
    client = VaultClient(settings, credentials, safe, events)
    closing.push_async_callback(client.close)
    return VaultSource(client, safe, pace, count=events.failed)


def _kubernetes(
    connection: Connection, credentials: Credentials, pace: Pace, telling: Telling, teller: Teller
) -> Source:
    from agent.sources.kubernetes.source import KubernetesSource

    def hint(ref: SecretRef, text: str) -> None:
        log.warning(Event.POLLED, secret=str(ref), reason=text)
        teller.polled(ref, text)

    def count(kind: str) -> None:
        telling.metrics.source_error(KubernetesSource.name, kind)

    return KubernetesSource(connection, credentials, pace, hint=hint, count=count)
