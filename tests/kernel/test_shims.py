"""The shim's volume on real mounts: what a pod is shown of it, and that ld.so takes a library from there alone."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.delivery import mounts
from agent.delivery.shims import FOLDER, Shims
from agent.delivery.state import StateUnwritable
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.model import AccessRule, FilePlan, PodRef, SecretRef, SecretVersion, ShimRequest, VolumePlan
from kernelsecret.errors import Code, Refused
from kernelsecret.names import SHIM_FILE

SAYS_SO = '#include <unistd.h>\n__attribute__((constructor)) static void here(void) { write(1, "loaded", 6); }\n'
POD = PodRef("shop", "web", "uid-1", "web")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A library that says that it was loaded."""
    made = tmp_path_factory.mktemp("library") / "says.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(made), "-x", "c", "-"]
    subprocess.run(command, input=SAYS_SO, text=True, check=True, capture_output=True)
    return made.read_bytes()


class Place:
    """The folders of an agent, and its volumes of the shim."""

    def __init__(self, base: Path, library: bytes) -> None:
        self.base, self.run, self.state, self.library = base, base / "run", base / "state", base / "library.so"
        self.run.mkdir()
        self.library.write_bytes(library)
        self.shims = Shims(self.run, self.state, self.library)

    def restarted(self) -> Shims:
        """Another agent; what the one before had open is closed by its end."""
        self.end_agent()
        self.shims = Shims(self.run, self.state, self.library)
        self.shims.adopt()
        return self.shims

    def end_agent(self) -> None:
        for fd in self.shims._held.values():
            os.close(fd)
        self.shims._held.clear()

    def request(self, name: str = "one") -> ShimRequest:
        target = self.base / "targets" / name
        target.mkdir(parents=True, exist_ok=True)
        return ShimRequest(f"csi-{name}", target, replace(POD, name=name))

    def shown(self, name: str = "one") -> Path:
        """A volume that is published."""
        request = self.request(name)
        self.shims.publish(request)
        return request.target_path

    def contents(self) -> set[str]:
        """What lies in the agent's own folder."""
        folder = self.run / FOLDER
        return set(os.listdir(folder)) if folder.is_dir() else set()

    def nothing_left(self) -> bool:
        return not mounts.mounts_below(self.base, mounts.read_mounts()) and not os.listdir(self.state)


@pytest.fixture
def place(tmp_path: Path, library: bytes) -> Iterator[Place]:
    made = Place(tmp_path, library)
    yield made
    made.end_agent()
    for point in mounts.mounts_below(tmp_path, mounts.read_mounts()):
        mounts.unmount(point)


def options(point: Path) -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (found,) = [line.split()[5] for line in lines if line.split()[4] == str(point)]
    return set(found.split(","))


def preloaded(library: Path) -> str:
    """What a dynamic program says that is started with the library."""
    done = subprocess.run(["/bin/true"], env={"LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_pod_is_shown_the_library_and_nothing_else_and_may_execute_but_not_change_it(
    place: Place, library: bytes
) -> None:
    target = place.shown()
    assert os.listdir(target) == [SHIM_FILE]
    found = (target / SHIM_FILE).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o555, 0, 0)
    assert (target / SHIM_FILE).read_bytes() == library
    assert {"ro", "nosuid", "nodev"} <= options(target)
    assert "noexec" not in options(target)
    with pytest.raises(OSError, match="Read-only"):
        (target / "more").touch()


def test_no_pod_can_have_a_lease_that_the_programs_of_others_would_wait_for(place: Place) -> None:
    def is_leased(target: Path) -> bool:
        with (target / SHIM_FILE).open("rb") as file:
            try:
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except BlockingIOError:
                return False
        return True

    one = place.shown("one")
    assert not is_leased(one)
    two = place.shown("two")
    place.shims.unpublish("csi-one")
    assert not is_leased(two)
    place.restarted()
    assert not is_leased(two)
    mounts.unmount(place.run / FOLDER)
    place.restarted()
    assert not is_leased(two), "also where its own folder is lost"


def test_a_lease_from_before_the_agent_neither_holds_it_up_nor_stays(place: Place) -> None:
    target = place.shown()
    place.end_agent()
    with (target / SHIM_FILE).open("rb") as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        assert place.restarted()._held == {}
    place.shims.publish(place.request())
    assert len(place.shims._held) == 1


def test_ld_so_takes_the_library_from_its_mount_and_from_no_volume_of_secrets(place: Place, library: bytes) -> None:
    assert preloaded(place.shown() / SHIM_FILE) == "loaded"
    (place.run / "volumes").mkdir()
    secrets = place.request("secrets").target_path
    engine, ref = TmpfsEngine(place.run / "volumes"), SecretRef("file", "db")
    files = (FilePlan(SHIM_FILE, ref, "key", 0o555),)
    plan = VolumePlan("csi-2", secrets, POD, "tests", files, AccessRule(), allow_unenforced=True, uses_sub_path=False)
    state = engine.begin(plan, {ref: SecretVersion(ref, {"key": library})})
    try:
        assert (secrets / SHIM_FILE).read_bytes() == library
        assert "noexec" in options(secrets)
        assert preloaded(secrets / SHIM_FILE) == "", "the program ran, without it"
    finally:
        asyncio.run(engine.end(state))


def test_a_volume_that_is_asked_for_again_stays_as_it_is(place: Place) -> None:
    place.shown()
    before = mounts.read_mounts()
    place.shown()
    assert mounts.read_mounts() == before
    assert len(place.shims) == 1


def test_a_target_that_somebody_unmounted_is_shown_again(place: Place) -> None:
    mounts.unmount(place.shown())
    assert os.listdir(place.shown()) == [SHIM_FILE]


def test_the_end_of_the_last_volume_leaves_nothing(place: Place) -> None:
    one, two = place.shown("one"), place.shown("two")
    assert len(place.contents()) == 1, "there is one copy"
    ended = place.shims.unpublish("csi-one")
    assert ended is not None
    assert ended.pod.name == "one"
    assert not one.exists()
    assert os.listdir(two) == [SHIM_FILE]
    place.shims.unpublish("csi-two")
    assert place.shims.unpublish("csi-two") is None
    assert place.nothing_left()
    assert not (place.run / FOLDER).exists()


def test_a_new_agent_takes_over_what_is_shown_and_forgets_what_is_not(place: Place) -> None:
    one, two = place.shown("one"), place.shown("two")
    mounts.unmount(two)
    assert [state.volume_id for state in place.restarted().all()] == ["csi-one"]
    assert os.listdir(one) == [SHIM_FILE]
    place.shown("two")
    place.shims.unpublish("csi-one")
    place.shims.unpublish("csi-two")
    assert place.nothing_left()


def test_a_new_agent_gives_new_pods_its_own_shim_and_old_ones_keep_theirs(place: Place, library: bytes) -> None:
    old = place.shown("old")
    place.library.write_bytes(library + b"newer")
    place.restarted()
    new = place.shown("new")
    assert place.shown("old") == old, "asked for again"
    assert (old / SHIM_FILE).read_bytes() == library
    assert (new / SHIM_FILE).read_bytes() == library + b"newer"
    assert len(place.contents()) == 2
    mapped = os.open(old / SHIM_FILE, os.O_RDONLY)
    try:
        place.shims.unpublish("csi-old")
        assert len(place.contents()) == 1
        assert os.pread(mapped, len(library), 0) == library, "programs that have it go on"
    finally:
        os.close(mapped)


def test_a_volume_whose_state_file_was_lost_goes_on_and_is_known_again_when_it_is_asked_for(
    place: Place, library: bytes
) -> None:
    target = place.shown()
    before = mounts.read_mounts()
    (state,) = place.state.iterdir()
    state.unlink()
    assert len(place.restarted()) == 0
    assert (target / SHIM_FILE).read_bytes() == library
    place.library.write_bytes(library + b"newer")
    assert place.shown() == target
    assert (target / SHIM_FILE).read_bytes() == library, "what its programs have"
    assert place.contents() == {one.content for one in place.shims.all()}
    assert mounts.read_mounts() == before
    place.shims.unpublish("csi-one")
    assert place.nothing_left()


def test_a_volume_whose_agent_lost_its_own_folder_goes_on(place: Place) -> None:
    target = place.shown()
    mounts.unmount(place.run / FOLDER)
    before = mounts.read_mounts()
    place.restarted()
    assert place.shown() == target
    assert mounts.read_mounts() == before
    place.shims.unpublish("csi-one")
    assert place.nothing_left()


@pytest.mark.parametrize("content", [None, b"", b"#!/bin/sh\n"], ids=["missing", "empty", "script"])
def test_an_agent_without_a_shim_refuses_with_the_remedy_and_leaves_nothing(
    place: Place, content: bytes | None
) -> None:
    place.library.unlink()
    if content is not None:
        place.library.write_bytes(content)
    with pytest.raises(Refused, match=SHIM_FILE) as refused:
        place.shown()
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert "another mode" in refused.value.fix
    assert place.nothing_left()


def test_a_volume_is_one_pod_s_at_one_target(place: Place) -> None:
    place.shown()
    request = place.request()
    elsewhere = place.request("two")
    for changed, field in (
        (replace(request, target_path=elsewhere.target_path), "target_path"),
        (replace(request, pod=replace(POD, uid="uid-2")), "volume_context.pod"),
        (replace(elsewhere, target_path=request.target_path), "target_path"),
    ):
        with pytest.raises(Refused) as refused:
            place.shims.publish(changed)
        assert (refused.value.code, refused.value.field) == (Code.ALREADY_EXISTS, field)


def test_what_cannot_be_written_down_is_not_shown(place: Place) -> None:
    request = place.request()
    place.state.rmdir()
    with pytest.raises(StateUnwritable):
        place.shims.publish(request)
    place.state.mkdir()
    assert place.nothing_left()
    assert os.listdir(request.target_path) == []


def test_what_cannot_be_shown_is_not_written_down(place: Place) -> None:
    request = place.request()
    request.target_path.rmdir()
    with pytest.raises(FileNotFoundError):
        place.shims.publish(request)
    assert place.nothing_left()
