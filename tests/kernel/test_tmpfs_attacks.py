"""Programs of a pod that would hold up the agent by its own ordinary files: with leases, and by filling the volume."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.delivery.engine import BehindError
from agent.model import SecretRef, SecretVersion
from tests.kernel.test_tmpfs import DB, Place

AT_ONCE_S = 5.0
"""Far less than a lease may be held on to (/proc/sys/fs/lease-break-time, 45 s)."""
LEASER = """import fcntl, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open(sys.argv[1], "rb")
fcntl.fcntl(file, fcntl.F_SETLEASE, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


@contextmanager
def leased(path: Path, lease: int) -> Iterator[None]:
    """Another process has a lease on the file, as root in a container may, and does not give it back when asked."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LEASER, str(path), str(lease)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield
        finally:
            holder.kill()


@contextmanager
def at_once() -> Iterator[None]:
    """What is in it must not wait for a lease; where it does, it is interrupted and fails."""

    def too_long(number: int, frame: object) -> None:
        raise AssertionError("the agent waits for a lease")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, AT_ONCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_lease_for_reading_does_not_keep_its_file_from_being_replaced(place: Place) -> None:
    place.begin({"user": b"alice"})
    with leased(place.target / "user", fcntl.F_RDLCK), at_once():
        assert place.rotate(user=b"bob") == {"user"}
        assert (place.target / "user").read_bytes() == b"bob"


@pytest.mark.parametrize("lease", [fcntl.F_RDLCK, fcntl.F_WRLCK], ids=["for reading", "for writing"])
def test_no_lease_holds_up_the_closing_or_the_end_of_a_volume(place: Place, lease: int) -> None:
    state = place.begin({"user": b"alice", "password": b"one"})
    with leased(place.target / "user", lease), at_once():
        held = os.open(place.target / "password", os.O_RDONLY)
        place.engine.close(state)
        assert os.read(held, 100) == b"\0" * 3, "the others are overwritten all the same"
        os.close(held)
        place.engine.reopen(state, {DB: SecretVersion(DB, {"user": b"bob", "password": b"two"})})
    with leased(place.target / "user", lease), at_once():
        asyncio.run(place.engine.end(state))
    assert (os.listdir(place.root), os.listdir(place.target)) == ([], [])


def test_a_lease_for_writing_keeps_its_own_volume_back_and_no_other(place: Place, tmp_path: Path) -> None:
    other = SecretRef("file", "other")
    both = place.begin_of({"user": DB, "token": other}, "csi-1", tmp_path / "target")
    place.begin_of({"user": DB}, "csi-2", tmp_path / "second")
    with leased(tmp_path / "target" / "token", fcntl.F_WRLCK), at_once():
        with pytest.raises(BehindError, match="lease") as told:
            place.rotate(user=b"bob")
        assert set(told.value.volume_ids) == {both.plan.volume_id}
        assert told.value.changed == {"user"}
    assert (tmp_path / "second" / "user").read_bytes() == b"bob"
    assert (tmp_path / "target" / "user").read_bytes() == b"user"
    assert place.rotate(user=b"bob") == {"user"}, "once the lease is gone"


def test_a_volume_that_its_readers_fill_is_closed_all_the_same(place: Place, tmp_path: Path) -> None:
    state = place.begin({"user": b"0", "password": b"one"})
    with ExitStack() as held:
        for number in range(200):
            held.enter_context((place.target / "user").open("rb"))
            try:
                place.rotate(user=b"version %d" % number, password=b"%d" % number)
            except BehindError:
                break
        else:
            pytest.fail("the volume has room for whatever its readers hold open")
        place.engine.close(state)
        assert place.engine.is_closed(state)
        with pytest.raises(PermissionError):
            (place.target / "password").read_bytes()
    place.engine.reopen(state, {DB: SecretVersion(DB, {"user": b"back", "password": b"two"})})
    assert (place.target / "password").read_bytes() == b"two"


def test_a_volume_that_its_readers_fill_keeps_no_other_from_the_new_version(place: Place, tmp_path: Path) -> None:
    place.begin_of({"user": DB}, "csi-1", tmp_path / "target")
    place.begin_of({"user": DB}, "csi-2", tmp_path / "second")
    with ExitStack() as held:
        for number in range(200):
            held.enter_context((tmp_path / "target" / "user").open("rb"))
            try:
                place.rotate(user=b"version %d" % number)
            except BehindError as behind:
                told = behind
                break
        else:
            pytest.fail("the volume has room for whatever its readers hold open")
        assert told.volume_ids == ("csi-1",)
        assert told.changed == {"user"}
        assert "open" in told.why
        assert "csi-1" not in str(told), "pods of other namespaces hear it too"
        assert (tmp_path / "second" / "user").read_bytes() == b"version %d" % number
        assert (tmp_path / "target" / "user").read_bytes() == b"version %d" % (number - 1)
    assert place.rotate(user=b"after") == {"user"}
    assert [(tmp_path / name / "user").read_bytes() for name in ("target", "second")] == [b"after"] * 2
