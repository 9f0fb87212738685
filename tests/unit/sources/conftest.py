"""A root of secrets with one secret in it, and a source that is closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.sources.file import FileSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    (folder / "payments" / "db").mkdir(parents=True)
    return folder


@pytest.fixture
def folder(root: Path) -> Path:
    """The folder of the secret `payments/db`, with two keys."""
    own = root / "payments" / "db"
    (own / "username").write_bytes(b"alice")
    (own / "password").write_bytes(b"one")
    return own


@pytest.fixture
async def source(root: Path) -> AsyncIterator[FileSource]:
    made = FileSource(root)
    yield made
    await made.close()
