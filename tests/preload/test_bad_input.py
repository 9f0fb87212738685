"""What cannot be: wild pointers, endless paths, a broken variable, descriptors run out. The program goes on."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from tests.preload.building import KINDS, OPTIONS, Built, Kind
from tests.preload.conftest import Start
from tests.preload.told import Told
from tests.preload.volume import Volume

WILD = ("0x0", "0x1", "0xffffffffffffff00", "0x7fffffffffff")
TAKE_A_PATH = (
    "open",
    "open64",
    "__open_2",
    "stat",
    "lstat",
    "__xstat",
    "statx",
    "syscall",
    "access",
    "euidaccess",
    "fopen",
)
BROKEN = (
    "",
    ":",
    ":::",
    "=",
    "relative",
    "relative=/x",
    "/x=relative",
    "/",
    "//",
    "/=/x",
    "/x=/",
    "/../x",
    "/a/../b=/c",
    "/a=/b=/c",
    "/a//b=/c",
    "/a/./b",
    "/a=",
    "=/a",
    "/" + "x" * 600,
    "/x=/" + "y" * 600,
    ":".join(f"/many/{number}=/other/{number}" for number in range(300)),
    ":".join(f"/{str(number) * 80}=/{str(number) * 80}" for number in range(90)),
    "\x01\xff\x7f:/\xff=/\xfe",
)


@pytest.mark.parametrize(
    ("kind", "function"),
    # A sanitizer's own fopen reads the path.
    [(kind, one) for kind in KINDS for one in TAKE_A_PATH if one != "fopen" or not kind.sanitizes],
    ids=lambda one: one.name if isinstance(one, Kind) else one,
)
def test_a_wild_pointer_is_refused_by_the_kernel_as_ever(reader: Told, function: str) -> None:
    for address in WILD:
        words = (1, address, "r") if function == "fopen" else (address, 0)
        assert reader(function, *words) == "EFAULT"


def test_paths_of_every_length_are_as_the_kernel_takes_them(reader: Told, volume: Volume, overlaid: Path) -> None:
    for folder in (volume.folder, overlaid):
        for length in (200, 255, 256, 500, 511, 512, 513, 1000, 4094, 4095, 4096, 4097, 9000):
            long = f"{folder}/" + "x" * max(length - len(str(folder)) - 1, 1)
            slashes = f"{folder}" + "/" * max(length - len(str(folder)) - 3, 1) + "key"
            assert reader("open", long, 0) in ("ENOENT", "ENAMETOOLONG")
            if len(slashes) < 4096:
                assert reader("read", reader("open", slashes, 0)) == "first"
            else:
                assert reader("open", slashes, 0) == "ENAMETOOLONG"
            assert reader("stat", long) in ("ENOENT", "ENAMETOOLONG")
    assert reader("open", "", 0) in ("ENOENT", "EFAULT")


def test_a_name_too_long_to_be_followed_is_read_as_without_the_shim(reader: Told, volume: Volume) -> None:
    name = "/".join(["d" * 200] * 4)
    volume.put(f"{name}/key", "first")
    fd = reader("open", volume / name / "key", 0)
    assert reader("read", fd) == "first"
    (volume / name / "new").write_text("second")
    (volume / name / "new").rename(volume / name / "key")
    assert reader("pread", fd, 20, 0) == "first"
    assert reader("read", reader("open", volume / name / "key", 0)) == "second"


@pytest.mark.parametrize("value", BROKEN, ids=lambda value: value[:20].encode("unicode_escape").decode())
def test_what_cannot_be_parsed_is_passed_over(start: Start, volume: Volume, overlaid: Path, value: str) -> None:
    broken = start(value)
    assert broken("read", broken("open", volume / "key", 0)) == "first"
    assert broken("read", broken("open", overlaid / "own", 0)) == "app's own"
    assert broken("stat", overlaid / "none") == "ENOENT"
    if len(value) > 3000:
        return
    beside = start(f"{value}:{volume.folder}/:{value}")
    fd = beside("open", volume / "key", 0)
    volume.put("key", "second")
    assert beside("pread", fd, 20, 0) == "second"


def test_without_the_variable_nothing_is_ours(built: Built, kind: Kind, volume: Volume) -> None:
    environment = built.environment(kind, "")
    del environment["KERNELSECRET_SHIM_PATHS"]
    with Told(built.program("reader", kind), environment) as reader:
        fd = reader("open", volume / "key", 0)
        volume.put("key", "second")
        assert reader("pread", fd, 20, 0) == "first"


def test_an_empty_environment_is_no_harm(built: Built, kind: Kind, volume: Volume) -> None:
    environment = {"LD_PRELOAD": str(built.shim(kind))} | (OPTIONS if kind.sanitizes else {})
    with Told(built.program("reader", kind), environment) as reader:
        assert reader("read", reader("open", volume / "key", 0)) == "first"


def test_where_no_descriptor_is_left_the_old_file_stays(reader: Told, volume: Volume, overlaid: Path) -> None:
    fd = reader("open", volume / "key", 0)
    assert reader("fopen", 1, volume / "key", "r") != "-1"
    resource.prlimit(reader.pid, resource.RLIMIT_NOFILE, (5, 5))
    volume.put("key", "second")
    assert reader("open", overlaid / "key", 0) in ("ENOENT", "EMFILE")
    assert reader("pread", fd, 20, 0) == "first"
    assert reader("lseek", fd, 0, os.SEEK_SET) == "0"
    assert reader("read", fd) == "first"
    assert reader("rewind", 1) == "0"
    assert reader("fread", 1) == "first"


def test_more_names_than_there_is_room_for_are_read_but_not_followed(reader: Told, volume: Volume) -> None:
    seen = 0
    for number in range(1500):
        name = f"{number:04}" + "n" * 240
        (volume / name).write_text("old")
        fd = reader("open", volume / name, 0)
        assert reader("read", fd) == "old"
        volume.put(name, "new")
        seen += reader("pread", fd, 9, 0) == "new"
        assert reader("close", fd) == "0"
    assert 700 < seen < 1500
    fd = reader("open", volume / "key", 0)
    assert reader("read", fd) == "first"


def test_the_shim_twice_is_as_the_shim_once(built: Built, kind: Kind, volume: Volume, overlaid: Path) -> None:
    copy = Path(shutil.copy(built.shim(kind), volume.folder.parent / "copy.so"))
    paths = f"{volume.folder}:{overlaid}={volume.folder}"
    environment = built.environment(kind, paths, LD_PRELOAD=f"{built.shim(kind)}:{copy}")
    with Told(built.program("reader", kind), environment) as reader:
        fds = [reader("open", path / "key", 0) for path in (volume.folder, overlaid)]
        assert reader("fopen", 1, overlaid / "key", "r") == "5"
        volume.put("key", "second")
        assert [reader("pread", fd, 20, 0) for fd in fds] == ["second", "second"]
        assert reader("rewind", 1) == "0"
        assert reader("fread", 1) == "second"


# The library beside is built for glibc.
@pytest.mark.parametrize("kind", [one for one in KINDS if one.name != "musl"], ids=lambda one: one.name)
@pytest.mark.parametrize("beside", ["before", "after"])
def test_another_preloaded_library_is_called_as_well(built: Built, kind: Kind, volume: Volume, beside: str) -> None:
    library = built.program("beside", Kind("glibc"), "-shared", "-fPIC")
    shim = built.shim(kind)
    order = [library, shim] if beside == "before" else [shim, library]
    environment = built.environment(kind, str(volume.folder), LD_PRELOAD=":".join(map(str, order)))
    with Told(built.program("reader", kind), environment) as reader:
        fd = reader("open", volume / "key", 0)
        volume.put("key", "second")
        assert reader("pread", fd, 20, 0) == "second"
        assert reader("open", "/beside", 0) == "EXDEV", "the library beside answers for this path"
        assert reader("access", "/beside", 0) == "EXDEV"
