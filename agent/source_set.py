"""The sources that this agent has, by its settings. What only one of them needs is imported where it is opened."""

from __future__ import annotations

from collections.abc import Callable

from agent.credentials import Credentials
from agent.model import SecretRef, Source
from agent.settings import Settings
from agent.sources.file import FileSource


def open_sources(settings: Settings, credentials: Credentials, pace: Callable[[SecretRef], float]) -> dict[str, Source]:
    """Each by its name. They are closed by whoever asked for them."""
    return {FileSource.name: FileSource(settings.file_source_dir)}
