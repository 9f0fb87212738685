"""An agent without a process for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.serving.desk import Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """One that serves the documented example."""
    made = Desk(tmp_path)
    yield made
    await made.close()
