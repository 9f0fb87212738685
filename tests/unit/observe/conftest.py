"""What the tests of the observing room share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path (sockets) that other users can be let into."""
    folder = Path(tempfile.mkdtemp(prefix="ks-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own_uid() -> int:
    return os.geteuid()
