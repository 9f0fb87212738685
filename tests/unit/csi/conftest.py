from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short path: a unix socket's has at most 107 bytes, and pytest's own grows with the test's name and its runs."""
    with tempfile.TemporaryDirectory(prefix="ks-") as folder:
        yield Path(folder).resolve()
