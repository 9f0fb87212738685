"""Volumes in pods with a user namespace of their own: whether this node can is found by doing, and then it is so."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent import idmapped
from agent.delivery import mounts
from agent.idmapped import FIRST_ID, IDS, user_namespace, with_idmapped
from agent.kernel.node import NodeFacts
from agent.probe import ProbeReport, report
from tests.kernel.test_tmpfs import Place

RELEASE = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
WORKS = RELEASE >= (6, 3)
"""A tmpfs allows idmapped mounts. Older kernels are met in emulation, where nothing may be skipped."""
MAPPED = Path(__file__).parent / "harness" / "mapped.py"
Clone = Callable[[Path, int], int]


def plain_clone(source: Path, _user_ns: int) -> int:
    """What a runtime that knows nothing of idmapped mounts would make."""
    return mounts._open_tree(source)


class MappedPod:
    """A pod whose ids begin at the host's FIRST_ID, with a volume at /mnt."""

    def __init__(self, volume: Path, clone: Clone) -> None:
        with ExitStack() as undo:
            self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(self.door.close)
            with theirs:
                command = [sys.executable, "-I", "-S", str(MAPPED), str(theirs.fileno())]
                self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            undo.callback(self.end)
            assert self.door.recv(64) == b"entered"
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{self.process.pid}/{kind}").write_text(f"0 {FIRST_ID} {IDS}\n")
            namespace = os.open(f"/proc/{self.process.pid}/ns/user", os.O_RDONLY)
            undo.callback(os.close, namespace)
            tree = clone(volume, namespace)
            socket.send_fds(self.door, [b"volume"], [tree])
            os.close(tree)
            assert self.door.recv(64) == b"attached"
            undo.pop_all()
            os.close(namespace)

    def read(self, name: str, uid: int = 0, groups: tuple[int, ...] = ()) -> list[Any]:
        """What a process of the pod meets: bytes or an errno's name, owner, group, mode."""
        self.door.send(json.dumps([uid, groups, f"/mnt/{name}"]).encode())
        found: list[Any] = json.loads(self.door.recv(4096))
        return found

    def end(self) -> None:
        """Ends with its last word."""
        self.door.close()
        self.process.wait(timeout=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


@pytest.fixture
def pods() -> Iterator[Callable[..., MappedPod]]:
    """Starts pods with a user namespace, and ends them."""
    with ExitStack() as ending:

        def start(volume: Path, clone: Clone = mounts.clone_idmapped) -> MappedPod:
            made = MappedPod(volume, clone)
            ending.callback(made.end)
            return made

        yield start


Start = Callable[..., MappedPod]


if WORKS:

    def test_the_pods_root_and_its_group_read_a_volume_and_nobody_else(place: Place, pods: Start) -> None:
        state = place.begin({"password": b"one"}, fs_group=2000)
        pod = pods(place.target)
        assert pod.read("password") == ["one", 0, 2000, 0o440]
        assert pod.read("password", 1000, (2000,)) == ["one", 0, 2000, 0o440]
        assert pod.read("password", 1000, (1000,)) == ["EACCES", 0, 2000, 0o440]
        assert place.rotate(password=b"two") == {"password"}
        assert pod.read("password", 1000, (2000,))[0] == "two"
        place.engine.close(state)
        assert pod.read("password")[0] == "EACCES"

    def test_files_belong_to_the_user_that_all_containers_run_as(place: Place, pods: Start) -> None:
        place.begin({"password": b"one"}, owner_uid=1000)
        pod = pods(place.target)
        assert pod.read("password", 1000) == ["one", 1000, 0, 0o440]
        assert pod.read("password", 1001)[0] == "EACCES"


def test_without_an_idmapped_mount_nobody_in_the_pod_owns_or_reads_a_file(place: Place, pods: Start) -> None:
    place.begin({"password": b"one"}, fs_group=2000)
    pod = pods(place.target, plain_clone)
    assert pod.read("password") == ["EACCES", 65534, 65534, 0o440]
    assert pod.read("password", 1000, (2000,))[0] == "EACCES"


def allows_idmapped(kind: str, folder: Path) -> bool:
    """Whether a new file system of a kind can be shown through an idmapped mount. Raises as `user_namespace`."""
    mounts.mount_new(kind, folder)
    try:
        with user_namespace() as namespace:
            os.close(mounts.clone_idmapped(folder, namespace))
    except mounts.MountError as error:
        if error.call != "mount_setattr" or error.errno != errno.EINVAL:
            raise
        return False
    finally:
        mounts.unmount(folder)
    return True


def test_a_tmpfs_allows_it_where_the_kernel_is_not_too_old_and_a_bpffs_does_not(tmp_path: Path) -> None:
    assert allows_idmapped("tmpfs", tmp_path) is WORKS
    assert not allows_idmapped("bpf", tmp_path)


@pytest.fixture
def found(facts: NodeFacts) -> ProbeReport:
    """A report that says nothing of it yet."""
    return report(facts, "")


def test_the_probe_finds_whether_it_works_and_leaves_nothing(tmp_path: Path, found: ProbeReport) -> None:
    seen = with_idmapped(found, tmp_path)
    assert seen.idmapped == ("tmpfs" if WORKS else "none")
    assert ("mount_setattr" in seen.idmapped_reason) is not WORKS
    assert list(tmp_path.iterdir()) == []


def test_what_a_probe_left_that_was_killed_is_cleared_by_the_next(tmp_path: Path, found: ProbeReport) -> None:
    left = tmp_path / idmapped.FOLDER / "volumes"
    left.mkdir(parents=True)
    mounts.mount_new("tmpfs", left)
    (left / "x").mkdir()
    with_idmapped(found, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("clone", "why"),
    [
        (plain_clone, "has the owners 1000:2000 there"),
        (lambda source, _: mounts._checked("mount_setattr", -1, str(source)), "mount_setattr"),
    ],
)
def test_a_node_where_it_does_not_work_is_told_with_the_reason(
    tmp_path: Path, found: ProbeReport, clone: Clone, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.delivery.mounts.clone_idmapped", clone)
    seen = with_idmapped(found, tmp_path)
    assert seen.idmapped == "none"
    assert why in seen.idmapped_reason
    assert list(tmp_path.iterdir()) == []


def test_a_node_without_user_namespaces_is_told_with_the_reason(
    tmp_path: Path, found: ProbeReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idmapped, "_IN_NAMESPACE", "print(28, flush=True)")
    seen = with_idmapped(found, tmp_path)
    assert (seen.idmapped, seen.idmapped_reason) == ("none", "a user namespace cannot be made (ENOSPC)")
