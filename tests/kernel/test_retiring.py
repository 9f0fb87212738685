"""The end of a version under its readers: they keep what they have open, and of the rest nothing is left in memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.delivery import mounts
from agent.delivery.retiring import retire

OLD = b"old value"


@pytest.fixture
def version(tmp_path: Path) -> Iterator[Path]:
    """A version's folder, in memory as those of volumes."""
    mounts.mount_new("tmpfs", tmp_path)
    folder = tmp_path / "..1"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(OLD)
        os.chown(folder / name, 1000, 1000)
    yield folder
    mounts.unmount(tmp_path)


def peeked(path: Path) -> int:
    """A descriptor that is no open file: it keeps the file, and nobody counts it."""
    return os.open(path, os.O_PATH)


def through(fd: int) -> bytes:
    return Path(f"/proc/self/fd/{fd}").read_bytes()


def test_what_nobody_has_open_is_overwritten_and_what_somebody_has_is_not(version: Path) -> None:
    reader = os.open(version / "one", os.O_RDONLY)
    one, two = peeked(version / "one"), peeked(version / "two")
    try:
        assert os.read(reader, 3) == b"old"
        retire(version)
        assert os.read(reader, 100) == b" value", "it was in the middle of it"
        assert os.lseek(reader, 0, os.SEEK_SET) == 0
        assert os.read(reader, 100) == OLD
        assert through(two) == bytes(len(OLD))
    finally:
        for fd in (reader, one, two):
            os.close(fd)
    assert not version.exists()


def test_what_is_mapped_is_not_overwritten(version: Path) -> None:
    with (version / "one").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with mapped:
        retire(version)
        assert mapped[:] == OLD


def test_what_may_be_a_mount_of_its_own_is_not_overwritten(version: Path) -> None:
    fd = peeked(version / "one")
    try:
        retire(version, is_shown_elsewhere=True)
        assert through(fd) == OLD
    finally:
        os.close(fd)
    assert not version.exists()


def test_a_device_that_nothing_drives_goes_with_the_rest(version: Path) -> None:
    (version / "one").unlink()
    os.mknod(version / "one", 0o020440, 0)
    retire(version)
    assert not version.exists()
