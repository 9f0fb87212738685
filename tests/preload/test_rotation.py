"""A descriptor that is held across a rotation: at a rewind it shows the new file, and before it the old one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.preload.building import Built, Kind
from tests.preload.conftest import Start
from tests.preload.told import Told
from tests.preload.volume import Volume

OPENERS = ("open", "open64", "__open_2", "__open64_2")
FOLDER_OPENERS = ("openat", "openat64", "__openat_2", "__openat64_2")
SEEKS = ("lseek", "lseek64", "llseek")
PREADS = ("pread", "pread64", "__pread_chk", "__pread64_chk", "preadv", "preadv64", "preadv2", "preadv64v2")
AT_FDCWD = -100
CLOEXEC = os.O_CLOEXEC
F_GETFD, F_GETFL, F_DUPFD, F_DUPFD_CLOEXEC = 1, 3, 0, 1030


@pytest.mark.parametrize("function", OPENERS)
def test_each_form_of_open_is_followed(reader: Told, volume: Volume, function: str) -> None:
    fd = reader(function, volume / "key", 0)
    assert reader("read", fd) == "first"
    volume.put("key", "second")
    assert reader("read", fd) == ""
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "second"


@pytest.mark.parametrize("function", FOLDER_OPENERS)
def test_each_form_of_openat_is_followed(reader: Told, volume: Volume, function: str) -> None:
    folder = reader("open", volume.folder, os.O_DIRECTORY)
    fds = [
        reader(function, AT_FDCWD, volume / "key", 0),
        reader(function, folder, "key", 0),
        reader(function, folder, ".//key", 0),
    ]
    volume.put("key", "second")
    for fd in fds:
        assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
        assert reader("read", fd) == "second"


@pytest.mark.parametrize("function", SEEKS)
def test_each_form_of_lseek_brings_the_new_file(reader: Told, volume: Volume, function: str) -> None:
    fd = reader("open", volume / "key", 0)
    for value in ("second", "third, which is longer", "4"):
        volume.put("key", value)
        assert reader(function, fd, 0, os.SEEK_SET) == "0"
        assert reader("read", fd) == value


@pytest.mark.parametrize("function", PREADS)
def test_each_form_of_pread_at_the_beginning_brings_the_new_file(reader: Told, volume: Volume, function: str) -> None:
    fd = reader("open", volume / "key", 0)
    for value in ("second", "third, which is longer", "4"):
        volume.put("key", value)
        assert reader(function, fd, 100, 0) == value
    assert reader("read", fd) == "4"
    volume.put("key", "the fifth")
    assert reader(function, fd, 100, 0) == "the fifth"
    assert reader("read", fd) == "", "who was at the end is at the end"


def test_a_reader_in_mid_file_stays_with_its_version(reader: Told, volume: Volume) -> None:
    volume.put("key", "0123456789")
    fd = reader("open", volume / "key", 0)
    assert reader("read", fd, 4) == "0123"
    volume.put("key", "abcdefghij")
    assert reader("pread", fd, 3, 0) == "012"
    assert reader("lseek", fd, 0, os.SEEK_CUR) == "4"
    assert reader("lseek", fd, 2, os.SEEK_SET) == "2"
    assert reader("lseek", fd, 0, os.SEEK_END) == "10"
    assert reader("pread", fd, 3, 4) == "456"
    assert reader("lseek", fd, 5, os.SEEK_SET) == "5"
    assert reader("read", fd) == "56789"


def test_the_size_by_a_seek_to_the_end_is_the_new_files(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", 0)
    volume.put("key", "a longer value")
    assert reader("lseek", fd, 0, os.SEEK_END) == "14"
    volume.put("key", "short")
    assert reader("lseek", fd, 0, os.SEEK_END) == "5"
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "short"


@pytest.mark.parametrize("flags", [0, CLOEXEC, os.O_NONBLOCK, os.O_APPEND | CLOEXEC])
def test_number_and_flags_stay(reader: Told, volume: Volume, flags: int) -> None:
    fd = reader("open", volume / "key", flags)
    before = reader("fcntl", fd, F_GETFD), reader("fcntl", fd, F_GETFL)
    opened = sorted(os.listdir(f"/proc/{reader.pid}/fd"))
    volume.put("key", "second")
    assert reader("pread", fd, 10, 0) == "second"
    assert (reader("fcntl", fd, F_GETFD), reader("fcntl", fd, F_GETFL)) == before
    assert before[0] == ("1" if flags & CLOEXEC else "0")
    assert sorted(os.listdir(f"/proc/{reader.pid}/fd")) == opened


@pytest.mark.parametrize(
    "copy",
    [
        ("dup",),
        ("dup2", 40),
        ("dup3", 41, CLOEXEC),
        ("fcntl", F_DUPFD, 50),
        ("fcntl", F_DUPFD_CLOEXEC, 60),
        ("fcntl64", F_DUPFD, 70),
    ],
    ids=lambda words: "-".join(map(str, words)),
)
def test_copies_of_a_descriptor_are_followed_each_by_itself(
    reader: Told, volume: Volume, copy: tuple[object, ...]
) -> None:
    fd = reader("open", volume / "key", 0)
    other = reader(copy[0], fd, *copy[1:])
    assert int(other) >= (int(str(copy[-1])) if copy[0] == "fcntl" else 3)
    volume.put("key", "second")
    assert reader("lseek", other, 0, os.SEEK_SET) == "0"
    assert reader("read", other) == "second"
    assert reader("read", fd) == "first"
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "second"


def test_a_number_that_is_another_file_by_now_is_left_alone(reader: Told, volume: Volume, overlaid: Path) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("close", fd) == "0"
    assert reader("open", overlaid / "own", os.O_RDWR) == fd
    volume.put("key", "second")
    for _ in range(2):
        assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
        assert reader("read", fd) == "app's own"


def test_a_closed_number_stays_closed(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("close", fd) == "0"
    volume.put("key", "second")
    assert reader("lseek", fd, 0, os.SEEK_SET) == "EBADF"
    assert reader("pread", fd, 10, 0) == "EBADF"


def test_the_last_value_stays_where_the_volume_is_gone(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    volume.folder.rename(volume.folder.with_name("gone"))
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "first"
    assert reader("rewind", 1) == "0"
    assert reader("fread", 1) == "first"
    Volume.made(volume.folder).put("key", "back again")
    assert reader("pread", fd, 20, 0) == "back again"
    assert reader("rewind", 1) == "0"
    assert reader("fread", 1) == "back again"


def test_what_is_put_there_must_be_a_file(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", 0)
    (volume / "key").unlink()
    os.mkfifo(volume / "key")
    assert reader("pread", fd, 20, 0) == "first"
    (volume / "key").unlink()
    (volume / "key").mkdir()
    assert reader("pread", fd, 20, 0) == "first"


def test_what_was_opened_to_be_written_is_not_followed(reader: Told, volume: Volume) -> None:
    fd = reader("open", volume / "key", os.O_RDWR)
    assert reader("fopen", 1, volume / "key", "r+") == "4"
    volume.put("key", "second")
    assert reader("pread", fd, 20, 0) == "first"
    assert reader("rewind", 1) == "0"
    assert reader("fread", 1) == "first"


@pytest.mark.parametrize("name", ["//key", "/./key", "/.//./key", "/key"])
def test_a_path_counts_by_what_it_means(reader: Told, volume: Volume, name: str) -> None:
    spelt = f"{volume.folder.parent}//./{volume.folder.name}{name}"
    fd = reader("open", spelt, 0)
    volume.put("key", "second")
    assert reader("pread", fd, 20, 0) == "second"


def test_the_real_name_of_the_volume_counts_too(start: Start, volume: Volume) -> None:
    link = volume.folder.parent / "link"
    link.symlink_to(volume.folder.name)
    reader = start(str(link))
    fds = [reader("open", link / "key", 0), reader("open", volume / "key", 0)]
    volume.put("key", "second")
    assert [reader("pread", fd, 20, 0) for fd in fds] == ["second", "second"]


def test_descriptors_beyond_the_table_are_as_without_the_shim(
    start: Start, built: Built, kind: Kind, volume: Volume
) -> None:
    reader = start(LD_PRELOAD=str(built.shim(kind, "-DHELD_MOST=64")))
    fd = reader("open", volume / "key", 0)
    high = reader("fcntl", fd, F_DUPFD, 64)
    assert int(high) >= 64
    volume.put("key", "second")
    assert reader("pread", high, 20, 0) == "first"
    assert reader("pread", fd, 20, 0) == "second"
