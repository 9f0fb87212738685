"""Where LIVE has a file, the program's own is never taken for it: not by a link, not where no descriptor is left, not
where the live one cannot be opened. And another file system's file is not taken for a new version."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import need
from tests.preload.test_overlay import OPENERS, facts
from tests.preload.told import Told
from tests.preload.volume import Volume


@pytest.fixture
def both(volume: Volume, overlaid: Path) -> Path:
    """A file of the program's own that the volume has as well, there by a link as all names of a volume are."""
    volume.put("..1/both", "live")
    (volume / "..data").symlink_to("..1")
    (volume / "both").symlink_to("..data/both")
    return overlaid / "both"


@pytest.fixture
def unopenable(volume: Volume, overlaid: Path) -> Path:
    """What LIVE has there nobody can open, as in a volume that was closed."""
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(volume.folder, os.O_PATH)
        try:
            bound.bind(f"/proc/self/fd/{folder}/both")
        finally:
            os.close(folder)
    return overlaid / "both"


@pytest.mark.parametrize("function", OPENERS)
def test_the_links_of_a_volume_are_none_at_the_path_that_leads_there(reader: Told, both: Path, function: str) -> None:
    assert reader("read", reader(function, both, os.O_NOFOLLOW)) == "live"


@pytest.mark.parametrize("function", ["lstat", "lstat64", "__lxstat", "__lxstat64"])
def test_to_look_at_the_link_is_to_look_at_the_file(reader: Told, volume: Volume, both: Path, function: str) -> None:
    assert reader(function, both) == facts(volume / "both")
    assert reader(function, volume / "both") != facts(volume / "both"), "at the volume's own path it is a link"


def test_with_one_descriptor_left_the_live_file_has_it(reader: Told, both: Path) -> None:
    resource.prlimit(reader.pid, resource.RLIMIT_NOFILE, (4, 64))
    fd = reader("open", both, 0)
    assert (fd, reader("read", fd)) == ("3", "live")
    assert reader("open", both, 0) == "EMFILE"
    assert reader("close", fd) == "0"
    assert reader("fopen", 1, both, "r") == "3"
    assert reader("fread", 1) == "live"
    assert reader("fclose", 1) == "0"
    assert sorted(reader("opendir", both.parent).split()) == ["both", "key"]
    assert reader("open", both.parent / "own", 0) == "3", "what LIVE has not is the program's own as ever"
    assert reader("read", 3) == "app's own"


def test_a_live_file_that_cannot_be_opened_is_not_replaced_by_the_programs_own(reader: Told, unopenable: Path) -> None:
    assert reader("access", unopenable, os.F_OK) == "0", "it has started"
    before = sorted(os.listdir(f"/proc/{reader.pid}/fd"))
    for function in OPENERS:
        assert reader(function, unopenable, 0) == "ENXIO"
    for function in ("fopen", "fopen64"):
        assert reader(function, 1, unopenable, "r") == "ENXIO"
    assert sorted(os.listdir(f"/proc/{reader.pid}/fd")) == before
    assert reader("read", reader("open", unopenable, os.O_RDWR)) == "app's", "what writes reaches the program's own"


@pytest.fixture
def elsewhere(volume: Volume) -> Iterator[Path]:
    """A folder on another file system."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        need(folder.stat().st_dev != volume.folder.stat().st_dev, "another file system at /dev/shm")
        yield folder
    finally:
        shutil.rmtree(folder)


def test_a_file_of_another_file_system_is_no_new_version(reader: Told, volume: Volume, elsewhere: Path) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    (elsewhere / "key").write_text("not the volume's")
    volume.folder.rename(volume.folder.with_name("gone"))
    volume.folder.symlink_to(elsewhere)
    assert reader("pread", fd, 99, 0) == "first"
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "first"
    assert reader("rewind", 1) == "0"
    assert reader("fread", 1) == "first"
