"""Streams of both libcs: they seek in their own buffer, and must show the new file all the same after a rewind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.preload.told import Told
from tests.preload.volume import Volume

BACK = (
    ("rewind",),
    ("fseek", 0, os.SEEK_SET),
    ("fseeko", 0, os.SEEK_SET),
    ("fseeko64", 0, os.SEEK_SET),
    ("fsetpos",),
    ("fsetpos64",),
)


def go_back(reader: Told, words: tuple[object, ...], slot: int = 1) -> None:
    assert reader(words[0], slot, *words[1:]) == "0"


@pytest.mark.parametrize("function", ["fopen", "fopen64"])
@pytest.mark.parametrize("mode", ["r", "rb", "re", "r,ccs=UTF-8"])
def test_each_form_of_fopen_is_followed(reader: Told, volume: Volume, function: str, mode: str) -> None:
    assert int(reader(function, 1, volume / "key", mode)) > 2
    assert reader("fread", 1) == "first"
    volume.put("key", "second")
    assert reader("fread", 1) == ""
    go_back(reader, ("rewind",))
    assert reader("fread", 1) == "second"


@pytest.mark.parametrize("back", BACK, ids=lambda words: words[0])
@pytest.mark.parametrize("length", [10, 5000, 60000])
def test_each_way_back_shows_the_new_file_however_much_was_read(
    reader: Told, volume: Volume, back: tuple[object, ...], length: int
) -> None:
    volume.put("key", "a" * length)
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    for turn, read in enumerate((1, length // 2, length, 60000)):
        new = "bcde"[turn] * (length + turn)
        assert set(reader("fread", 1, read)) == {"abcde"[turn]}
        volume.put("key", new)
        go_back(reader, back)
        assert reader("fread", 1, 3) == new[:3]
        assert reader("ftell", 1) == "3"
        go_back(reader, back)
        assert reader("fread", 1, 65000) == new
        go_back(reader, back)


def test_a_stream_that_was_not_read_yet_shows_the_new_file_after_a_rewind(reader: Told, volume: Volume) -> None:
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    volume.put("key", "second")
    go_back(reader, ("rewind",))
    assert reader("fread", 1) == "second"


def test_a_stream_in_mid_file_stays_with_its_version(reader: Told, volume: Volume) -> None:
    volume.put("key", "0123456789")
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    assert reader("fread", 1, 4) == "0123"
    volume.put("key", "abcdefghijkl")
    assert reader("fseek", 1, 0, os.SEEK_END) == "0"
    assert reader("ftell", 1) == "10"
    assert reader("fseek", 1, 4, os.SEEK_SET) == "0"
    assert reader("fread", 1) == "456789"
    assert reader("fseek", 1, 0, os.SEEK_END) == "0"
    assert reader("ftell", 1) == "12"
    assert reader("fseek", 1, 0, os.SEEK_SET) == "0"
    assert reader("fread", 1) == "abcdefghijkl"


@pytest.mark.parametrize("function", ["freopen", "freopen64"])
def test_each_form_of_freopen_is_followed(reader: Told, volume: Volume, overlaid: Path, function: str) -> None:
    assert reader("fopen", 1, overlaid / "own", "r") != "-1"
    assert reader(function, 1, volume / "key", "r") != "-1"
    assert reader("fread", 1) == "first"
    volume.put("key", "second")
    go_back(reader, ("rewind",))
    assert reader("fread", 1) == "second"
    assert reader(function, 1, overlaid / "key", "r") != "-1"
    assert reader("fread", 1) == "second"
    assert reader(function, 1, overlaid / "own", "r") != "-1"
    assert reader("fread", 1) == "app's own"
    assert reader(function, 1, overlaid / "none", "r") == "ENOENT"


def test_a_stream_over_a_followed_descriptor_is_followed(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("fdopen", 1, fd, "r") == fd
    assert reader("fread", 1) == "first"
    volume.put("key", "second")
    go_back(reader, ("rewind",))
    assert reader("fread", 1) == "second"


def test_a_stream_is_found_in_the_volume_whether_or_not_the_app_has_the_file(
    reader: Told, volume: Volume, overlaid: Path
) -> None:
    volume.put("both", "live")
    for slot, (name, value) in enumerate((("key", "first"), ("both", "live"), ("own", "app's own"))):
        assert reader("fopen", slot, overlaid / name, "r") != "-1", name
        assert reader("fread", slot) == value
    assert reader("fopen", 9, overlaid / "none", "r") == "ENOENT"
    volume.put("key", "second")
    volume.put("both", "second live")
    for slot, value in enumerate(("second", "second live", "app's own")):
        go_back(reader, ("rewind",), slot)
        assert reader("fread", slot) == value
    assert [reader("fclose", slot) for slot in range(3)] == ["0", "0", "0"]


def test_a_stream_that_writes_goes_to_the_apps_own_file(reader: Told, volume: Volume, overlaid: Path) -> None:
    volume.put("both", "live")
    assert reader("fopen", 1, overlaid / "both", "a+") != "-1"
    assert reader("fseek", 1, 0, os.SEEK_SET) == "0"
    assert reader("fread", 1) == "app's"
