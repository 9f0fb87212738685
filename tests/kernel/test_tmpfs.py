"""The engine for nodes without BPF: real files in memory, replaced as a whole and in one step."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.delivery import mounts
from agent.delivery.lingering import MOST_LINGERING
from agent.delivery.state import VolumeState
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.model import AccessRule, FilePlan, FileRead, PodRef, SecretRef, SecretVersion, VolumePlan
from kernelsecret.errors import Refused
from kernelsecret.interceptor import Mode
from tests.kernel.harness.values import pattern

DB = SecretRef("file", "db")


class Place:
    def __init__(self, folder: Path) -> None:
        self.root, self.target = folder / "volumes", folder / "target"
        self.root.mkdir()
        self.target.mkdir()
        self.engine = TmpfsEngine(self.root)
        self.states: list[VolumeState] = []
        self.due: list[Callable[[], object]] = []
        """What is to happen a while after a rotation, where old versions stay."""

    def let_versions_stay(self) -> None:
        def later(delay: float, callback: Callable[[Path], object], version: Path) -> None:
            self.due.append(lambda: callback(version))

        self.engine = TmpfsEngine(self.root, later)

    def begin(self, values: dict[str, bytes], **changes: Any) -> VolumeState:
        plan = VolumePlan(
            volume_id="csi-1",
            target_path=self.target,
            pod=PodRef("shop", "web", "uid", "web"),
            interceptor="tests",
            files=tuple(FilePlan(key, DB, key, 0o440) for key in values),
            access=AccessRule(),
            allow_unenforced=True,
            **{"uses_sub_path": False} | changes,
        )
        self.states.append(self.engine.begin(plan, {DB: SecretVersion(DB, values)}))
        return self.states[-1]

    def begin_of(self, files: dict[str, SecretRef], volume_id: str, target: Path) -> VolumeState:
        """A volume of files of several secrets, each with its key for a value."""
        target.mkdir(exist_ok=True)
        plan = VolumePlan(
            volume_id=volume_id,
            target_path=target,
            pod=PodRef("shop", "web", "uid", "web"),
            interceptor="tests",
            files=tuple(FilePlan(key, ref, key, 0o440) for key, ref in files.items()),
            access=AccessRule(),
            allow_unenforced=True,
            uses_sub_path=False,
        )
        versions = {ref: SecretVersion(ref, {key: key.encode() for key in files}) for ref in files.values()}
        self.states.append(self.engine.begin(plan, versions))
        return self.states[-1]

    def rotate(self, **values: bytes) -> set[str]:
        return self.engine.rotate(SecretVersion(DB, values), self.states)

    def end(self) -> None:
        for state in self.states:
            asyncio.run(self.engine.end(state))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


def test_files_are_there_with_their_bytes_modes_and_owners(place: Place) -> None:
    place.begin({"tls.crt": b"certificate", "big": pattern(1 << 20), "empty": b""}, fs_group=2000)
    assert (place.target / "tls.crt").read_bytes() == b"certificate"
    assert (place.target / "big").read_bytes() == pattern(1 << 20)
    assert (place.target / "empty").read_bytes() == b""
    found = (place.target / "tls.crt").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o440, 0, 2000)


def test_a_rotation_replaces_all_files_in_one_step(place: Place) -> None:
    place.begin({"user": b"alice", "password": b"one"})
    before = os.open(place.target / "..data", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert place.rotate(user=b"bob", password=b"one") == {"user"}
        assert ((place.target / "user").read_bytes(), (place.target / "password").read_bytes()) == (b"bob", b"one")
        # Who resolved `..data` before sees the old version or nothing of it, never a mixture.
        with pytest.raises(FileNotFoundError):
            os.open("user", os.O_RDONLY, dir_fd=before)
    finally:
        os.close(before)
    assert sorted(os.listdir(place.target)) == ["..2", "..data", "password", "user"]


def test_who_resolved_the_folder_before_a_rotation_still_finds_the_old_version_for_a_while(place: Place) -> None:
    place.let_versions_stay()
    place.begin({"user": b"alice", "password": b"one"})
    before = os.open(place.target / "..data", os.O_RDONLY | os.O_DIRECTORY)
    try:
        place.rotate(user=b"bob", password=b"two")
        with open(os.open("user", os.O_RDONLY, dir_fd=before), "rb") as file:
            assert file.read() == b"alice"
        assert (place.target / "user").read_bytes() == b"bob"
        place.due.pop()()
        with pytest.raises(FileNotFoundError):
            os.open("user", os.O_RDONLY, dir_fd=before)
    finally:
        os.close(before)
    assert sorted(os.listdir(place.target)) == ["..2", "..data", "password", "user"]


def test_few_versions_stay_however_fast_they_come_and_none_where_the_room_is_needed(place: Place) -> None:
    place.let_versions_stay()
    place.begin({"user": b"0"})
    for number in range(MOST_LINGERING * 2):
        place.rotate(user=b"%d." % number)
    assert len(list(place.target.glob("..[0-9]*"))) == MOST_LINGERING + 1
    for number in range(4):
        place.rotate(user=pattern(1 << 20)[number:])
        assert (place.target / "user").read_bytes() == pattern(1 << 20)[number:]
    assert len(list(place.target.glob("..[0-9]*"))) == 2
    for due in place.due:
        due()
    assert len(list(place.target.glob("..[0-9]*"))) == 1


def test_no_version_outlives_the_right_to_it_or_the_volume(place: Place) -> None:
    place.let_versions_stay()
    state = place.begin({"user": b"alice"})
    place.rotate(user=b"bob")
    with open(place.target / "..1" / "user", "rb") as held:
        place.engine.close(state)
        assert held.read() == b"\0" * 5
    assert sorted(os.listdir(place.target)) == ["..3", "..data", "user"]
    place.engine.reopen(state, {DB: SecretVersion(DB, {"user": b"carol"})})
    place.rotate(user=b"dave")
    asyncio.run(place.engine.end(state))
    assert (os.listdir(place.root), os.listdir(place.target)) == ([], [])
    for due in place.due:
        due()


def test_a_starting_agent_ends_what_an_earlier_one_let_stay(place: Place) -> None:
    place.let_versions_stay()
    state = place.begin({"user": b"alice"})
    place.rotate(user=b"bob")
    TmpfsEngine(place.root).adopt(state)
    assert sorted(os.listdir(place.target)) == ["..2", "..data", "user"]
    assert (place.target / "user").read_bytes() == b"bob"


def test_a_version_that_changes_nothing_moves_nothing(place: Place) -> None:
    place.begin({"user": b"alice"})
    assert place.rotate(user=b"alice") == set()
    assert os.readlink(place.target / "..data") == "..1"


def test_a_version_without_a_shown_key_leaves_the_last_good_one(place: Place) -> None:
    place.begin({"user": b"alice", "password": b"one"})
    with pytest.raises(Refused, match="no key 'user'"):
        place.rotate(password=b"two")
    assert ((place.target / "user").read_bytes(), (place.target / "password").read_bytes()) == (b"alice", b"one")


def test_the_target_is_quiet_and_read_only(place: Place) -> None:
    place.begin({"user": b"alice"})
    with open("/proc/self/mountinfo") as lines:
        (options,) = [line.split()[5] for line in lines if line.split()[4] == str(place.target)]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))
    with pytest.raises(OSError) as failed:  # noqa: PT011 - its errno is looked at below
        (place.target / "user").write_bytes(b"mallory")
    assert failed.value.errno == errno.EROFS


def test_a_sub_path_is_refused_because_it_would_be_stale_for_ever(place: Place) -> None:
    with pytest.raises(Refused, match="subPath"):
        place.begin({"user": b"alice"}, uses_sub_path=True)
    assert list(place.root.iterdir()) == []


def test_a_sub_path_is_taken_in_the_mode_preload_and_its_mount_keeps_the_old_value(
    place: Place, tmp_path: Path
) -> None:
    place.begin({"user": b"alice"}, uses_sub_path=True, mode=Mode.PRELOAD)
    alone = tmp_path / "user"
    alone.touch()
    subprocess.run(["mount", "--bind", (place.target / "user").resolve(), alone], check=True)
    try:
        place.rotate(user=b"bob")
        assert ((place.target / "user").read_bytes(), alone.read_bytes()) == (b"bob", b"alice")
    finally:
        mounts.unmount(alone)


def test_a_reader_in_the_middle_of_a_file_reads_the_rest_of_it_after_a_rotation(place: Place) -> None:
    place.begin({"user": b"alice"})
    with (place.target / "user").open("rb", buffering=0) as file:
        assert file.read(2) == b"al"
        place.rotate(user=b"bob")
        assert file.read() == b"ice"
    assert (place.target / "user").read_bytes() == b"bob"


def test_who_is_in_the_middle_of_an_old_version_when_another_agent_takes_over_reads_on(place: Place) -> None:
    place.let_versions_stay()
    state = place.begin({"user": b"alice"})
    with (place.target / "user").open("rb", buffering=0) as file:
        assert file.read(2) == b"al"
        place.rotate(user=b"bob")
        TmpfsEngine(place.root).adopt(state)
        assert len(list(place.target.glob("..[0-9]*"))) == 1
        assert file.read() == b"ice"


def test_of_an_ordinary_file_nobody_knows_who_has_read_it(place: Place) -> None:
    state = place.begin({"user": b"alice", "password": b"one"})
    assert (place.target / "user").read_bytes() == b"alice"
    assert place.engine.generation(DB) == 0
    assert place.engine.reads(state, DB) == [(file, FileRead()) for file in state.plan.files]
    assert place.engine.reads(state, SecretRef("file", "other")) == []


def test_a_closed_volume_is_opened_by_nobody_not_even_root_and_holds_no_value(place: Place) -> None:
    state = place.begin({"user": b"alice", "password": b"one"})
    held = os.open(place.target / "user", os.O_RDONLY)
    try:
        place.engine.close(state)
        assert os.read(held, 100) == b"\0" * 5
    finally:
        os.close(held)
    for _ in range(2):
        assert place.engine.is_closed(state)
        for name in ("user", "password"):
            with pytest.raises(PermissionError) as refused:
                os.open(place.target / name, os.O_RDONLY)
            assert refused.value.errno == errno.EACCES
            with pytest.raises(OSError, match="Permission denied"):
                (place.root / state.name / name).read_bytes()
        place.engine.close(state)
    assert place.engine.sizes(state) == [0, 0]
    assert sorted(os.listdir(place.target)) == ["..2", "..data", "password", "user"]


def test_a_volume_that_is_reopened_shows_what_it_is_given(place: Place) -> None:
    state = place.begin({"user": b"alice"}, fs_group=2000)
    versions = {DB: SecretVersion(DB, {"user": b"bob"})}
    place.engine.reopen(state, versions)
    assert (place.target / "user").read_bytes() == b"alice", "there was nothing to reopen"
    place.engine.close(state)
    with pytest.raises(Refused, match="no key 'user'"):
        place.engine.reopen(state, {DB: SecretVersion(DB, {})})
    assert place.engine.is_closed(state)
    place.engine.reopen(state, versions)
    found = (place.target / "user").stat()
    assert (place.target / "user").read_bytes() == b"bob"
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o440, 2000)
    assert place.rotate(user=b"carol") == {"user"}


def test_a_closed_volume_ends_as_any_other(place: Place, tmp_path: Path) -> None:
    state = place.begin({"user": b"alice"})
    place.engine.close(state)
    asyncio.run(place.engine.end(state))
    assert (os.listdir(place.root), os.listdir(place.target)) == ([], [])


def test_the_end_wipes_what_a_leaked_mount_would_still_show(place: Place, tmp_path: Path) -> None:
    state = place.begin({"user": b"alice"})
    held = os.open(place.target / "user", os.O_RDONLY)
    try:
        asyncio.run(place.engine.end(state))
        assert os.read(held, 100) == b"\0" * 5
    finally:
        os.close(held)
    assert (os.listdir(place.root), os.listdir(place.target)) == ([], [])
    assert mounts.mounts_below(tmp_path, mounts.read_mounts()) == []
