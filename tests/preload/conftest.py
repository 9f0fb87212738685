"""A volume, the shim's builds and a reader, in each of the ways that the shim and the programs are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.preload.building import KINDS, Built, Kind
from tests.preload.told import Told
from tests.preload.volume import Volume

Start = Callable[..., Told]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("built"))


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """The live one, with a file `key`."""
    made = Volume.made(tmp_path / "live")
    made.put("key", "first")
    return made


@pytest.fixture
def overlaid(tmp_path: Path) -> Path:
    """A folder that is found in the volume; it has a file of its own that the volume lacks, and one that both have."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "own").write_text("app's own")
    (folder / "both").write_text("app's")
    return folder


@pytest.fixture
def start(built: Built, kind: Kind, volume: Volume, overlaid: Path) -> Iterator[Start]:
    """Starts a reader under the shim; all that were started must end well."""
    with ExitStack() as stack:

        def starter(paths: str | None = None, **more: str) -> Told:
            told = f"{volume.folder}:{overlaid}={volume.folder}" if paths is None else paths
            return stack.enter_context(Told(built.program("reader", kind), built.environment(kind, told, **more)))

        yield starter


@pytest.fixture
def reader(start: Start) -> Told:
    return start()
