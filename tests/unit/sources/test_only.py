"""A secret that is some files of a folder: the others may be anything."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.model import SecretRef
from agent.sources.file import FileSource
from agent.sources.keys import MAX_BYTES, MAX_KEYS
from kernelsecret.errors import Code, Refused
from tests.unit.sources.helpers import Recorder, drain, lay_out, put

REF = SecretRef("file", "app")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the wanted file, and what no secret may hold."""
    found = tmp_path / "app"
    found.mkdir()
    put(found, "password", b"one")
    (found / "huge").write_bytes(bytes(MAX_BYTES + 1))
    os.mkfifo(found / "pipe")
    for number in range(MAX_KEYS + 1):
        (found / f"other-{number}").touch()
    return found


@pytest.fixture
async def source(folder: Path) -> AsyncIterator[FileSource]:
    made = FileSource(folder.parent, {REF.path: {"password", "user"}})
    yield made
    await made.close()


async def test_only_the_files_that_are_asked_for_are_read(source: FileSource) -> None:
    assert (await source.fetch(REF)).values == {"password": b"one"}


async def test_a_folder_without_any_of_them_is_refused_with_their_names(source: FileSource, folder: Path) -> None:
    (folder / "password").unlink()
    with pytest.raises(Refused, match="the folder has no 'password', 'user'") as refused:
        await source.fetch(REF)
    assert refused.value.code is Code.NOT_FOUND


async def test_only_changes_of_these_are_told(source: FileSource, folder: Path) -> None:
    seen = Recorder()
    source.watch(REF, seen)
    await seen.value("password", b"one")
    put(folder, "other-1", b"x")
    (folder / "huge").unlink()
    await drain()
    put(folder, "password", b"two")
    version = await seen.value("password", b"two")
    assert version.values == {"password": b"two"}
    assert len(seen.versions) == 2
    assert not seen.failures
    put(folder, "user", b"me")  # which was not there at first
    assert (await seen.value("user", b"me")).values == {"password": b"two", "user": b"me"}


async def test_links_into_data_are_followed_when_that_is_swapped(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    lay_out(folder, "1", {"password": b"one", "user": b"a", "other": b"x"})
    source, seen = FileSource(tmp_path, {REF.path: {"password", "user"}}), Recorder()
    source.watch(REF, seen)
    await seen.value("password", b"one")
    lay_out(folder, "2", {"password": b"two", "user": b"b", "other": b"y"})
    assert (await seen.value("password", b"two")).values == {"password": b"two", "user": b"b"}
    await source.close()
