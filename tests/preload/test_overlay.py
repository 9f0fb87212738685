"""PATH=LIVE: what only reads or looks finds the live file where there is one, and the app's own otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.preload.conftest import Start
from tests.preload.told import Told
from tests.preload.volume import Volume

STATS = ("stat", "stat64", "lstat", "lstat64", "fstatat", "fstatat64", "statx", "syscall")
"""`syscall` stands for statx by its number, as libuv asks it."""
OLD_STATS = ("__xstat", "__xstat64", "__lxstat", "__lxstat64", "__fxstatat", "__fxstatat64")
ACCESSES = ("access", "faccessat", "euidaccess", "eaccess")
OPENERS = ("open", "open64", "__open_2", "__open64_2")


def facts(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_size}"


@pytest.mark.parametrize("function", OPENERS)
def test_reading_finds_the_live_file_and_follows_it(
    reader: Told, volume: Volume, overlaid: Path, function: str
) -> None:
    volume.put("both", "live")
    fds = [reader(function, overlaid / name, 0) for name in ("key", "both", "own")]
    assert [reader("read", fd) for fd in fds] == ["first", "live", "app's own"]
    assert reader(function, overlaid / "none", 0) == "ENOENT"
    volume.put("key", "second")
    volume.put("both", "second live")
    assert [reader("pread", fd, 20, 0) for fd in fds] == ["second", "second live", "app's own"]


def test_the_lowest_number_is_given_as_ever(reader: Told, volume: Volume, overlaid: Path) -> None:
    volume.put("both", "live")
    assert [reader("open", overlaid / name, 0) for name in ("both", "key", "own")] == ["3", "4", "5"]
    assert reader("close", 3) == "0"
    assert reader("open", overlaid / "both", os.O_CLOEXEC) == "3"
    assert reader("fcntl", 3, 1) == "1"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC])
def test_what_writes_or_creates_reaches_the_apps_own(reader: Told, volume: Volume, overlaid: Path, flags: int) -> None:
    live = volume.put("both", "live")
    fd = reader("open", overlaid / "both", flags)
    assert os.readlink(f"/proc/{reader.pid}/fd/{fd}") == str(overlaid / "both")
    assert live.read_text() == "live"


@pytest.mark.parametrize("function", STATS + OLD_STATS)
def test_each_form_of_stat_sees_the_live_file(reader: Told, volume: Volume, overlaid: Path, function: str) -> None:
    live = volume.put("both", "a live one")
    assert reader(function, overlaid / "both") == facts(live)
    assert reader(function, overlaid / "key") == facts(volume / "key")
    assert reader(function, overlaid / "own") == facts(overlaid / "own")
    assert reader(function, overlaid / "none") == "ENOENT"
    assert reader(function, volume / "key") == facts(volume / "key")
    volume.put("both", "another live one")
    assert reader(function, overlaid / "both") == facts(live)


@pytest.mark.parametrize("function", ACCESSES)
def test_each_form_of_access_sees_the_live_file(reader: Told, overlaid: Path, function: str) -> None:
    assert reader(function, overlaid / "key", os.R_OK) == "0"
    assert reader(function, overlaid / "own", os.R_OK) == "0"
    assert reader(function, overlaid / "key", os.W_OK) == "ENOENT", "nothing of the app's can be written there"
    assert reader(function, overlaid / "none", os.F_OK) == "ENOENT"


@pytest.mark.parametrize("function", ["opendir", "scandir", "scandir64"])
def test_a_folder_is_listed_as_it_is_live(reader: Told, volume: Volume, overlaid: Path, function: str) -> None:
    volume.put("sub/inner", "x")
    (overlaid / "kept").mkdir()
    (overlaid / "kept" / "own").touch()
    assert sorted(reader(function, overlaid).split()) == ["key", "sub"]
    assert reader(function, overlaid / "sub").split() == ["inner"]
    assert reader(function, overlaid / "kept").split() == ["own"]
    assert reader(function, overlaid / "none") == "ENOENT"
    assert reader(function, overlaid / "key") == "ENOENT", "it is no folder there, so the first answer stands"


def test_below_a_folder_that_was_opened_names_are_live(reader: Told, volume: Volume, overlaid: Path) -> None:
    volume.put("sub/inner", "old")
    folder = reader("open", overlaid / "sub", os.O_DIRECTORY)
    fd = reader("openat", folder, "inner", 0)
    volume.put("sub/inner", "new")
    assert reader("pread", fd, 10, 0) == "new"
    assert reader("openat", folder, "../key", 0) != "ENOENT"


def test_one_file_may_be_overlaid_by_itself(start: Start, volume: Volume, overlaid: Path) -> None:
    reader = start(f"{overlaid}/both={volume / 'key'}")
    fd = reader("open", overlaid / "both", 0)
    assert reader("read", fd) == "first"
    volume.put("key", "second")
    assert reader("pread", fd, 20, 0) == "second"
    assert reader("read", reader("open", overlaid / "own", 0)) == "app's own"
    for beside in ("both2", "both/", "both/x", "bot"):
        assert reader("open", f"{overlaid}/{beside}", 0) in ("ENOENT", "ENOTDIR")


def test_the_longest_entry_counts(start: Start, volume: Volume, overlaid: Path) -> None:
    volume.put("inner/key", "inner")
    for order in ("{0}={1}:{0}/deep={1}/inner", "{0}/deep={1}/inner:{0}={1}"):
        reader = start(order.format(overlaid, volume.folder))
        assert reader("read", reader("open", overlaid / "deep" / "key", 0)) == "inner"
        assert reader("read", reader("open", overlaid / "key", 0)) == "first"


def test_a_path_with_dots_that_lead_up_is_the_kernels(reader: Told, overlaid: Path) -> None:
    (overlaid / "kept").mkdir()
    assert reader("open", overlaid / "kept" / ".." / "key", 0) == "ENOENT"
    assert reader("read", reader("open", overlaid / "kept" / ".." / "own", 0)) == "app's own"


def test_a_file_is_no_folder_there_either(reader: Told, volume: Volume, overlaid: Path) -> None:
    volume.put("both", "live")
    for end in ("/", "/.", "/x"):
        assert reader("stat", f"{overlaid}/both{end}") == "ENOTDIR"
        assert reader("open", f"{overlaid}/both{end}", 0) == "ENOTDIR"
        assert reader("stat", f"{overlaid}/key{end}") == "ENOENT"


def test_an_unreadable_file_of_the_apps_is_still_found_in_the_volume(
    reader: Told, volume: Volume, overlaid: Path
) -> None:
    volume.put("loop", "live")
    (overlaid / "loop").symlink_to("loop")
    assert reader("read", reader("open", overlaid / "loop", 0)) == "live"
    (overlaid / "own2").symlink_to("own2")
    assert reader("open", overlaid / "own2", 0) == "ELOOP"


def test_without_an_overlay_looking_is_the_hosts_alone(start: Start, volume: Volume, overlaid: Path) -> None:
    reader = start(str(volume.folder))
    assert reader("stat", volume / "key") == facts(volume / "key")
    assert reader("stat", overlaid / "key") == "ENOENT"
    assert reader("scandir", overlaid).split() == ["both", "own"]
