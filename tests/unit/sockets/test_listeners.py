"""Folders, locks and socket files, before anybody connects; and the kernel's word on who does."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.sockets import Listener, listen, listen_privately, lock, peer_of, private_folder, shared_folder
from kernelsecret.errors import Refused
from tests.needs import need

NOBODY = 65534


def test_folders_that_are_not_the_agents_own_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(Refused, match=name):
            private_folder(tmp_path / name)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    with pytest.raises(Refused, match="chmod go-w"):
        shared_folder(shared)


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_wide_folder_of_our_own_is_tightened(tmp_path: Path, mode: int) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    wide.chmod(mode)
    private_folder(wide)
    assert stat.S_IMODE(wide.stat().st_mode) == 0o700


@pytest.mark.parametrize("make", [listen, listen_privately])
def test_a_file_in_the_way_is_kept(tmp_path: Path, make: Callable[[Path], Listener]) -> None:
    path = tmp_path / "csi.sock"
    path.write_text("precious")
    with pytest.raises(Refused, match="something else than a socket"):
        make(path)
    assert path.read_text() == "precious"


def test_a_live_socket_of_another_type_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(Refused, match="cannot be tried"):
            listen(path)
        assert path.exists()


def test_closing_removes_only_our_own_socket(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    ours = listen(path)
    path.unlink()
    theirs = listen(path)
    ours.close()
    assert path.exists()
    theirs.close()
    theirs.close()
    assert not path.exists()


def test_the_file_can_be_removed_before_the_socket_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    with closing(listen(path)) as ours:
        ours.remove()
        assert not path.exists()
        assert ours.sock.fileno() >= 0


def test_a_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="107 bytes"):
        listen(tmp_path / ("x" * 120))


def test_the_lock_falls_with_the_process_that_held_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(Refused, match="another agent"):
            lock(path)
        holder.kill()
        holder.wait()
        os.close(lock(path))


def test_the_peer_is_who_the_kernel_says() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == (os.getpid(), os.geteuid(), os.getegid())


def test_a_socket_that_nobody_answers_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listen_privately(path).sock.close()
    assert path.exists()
    with closing(listen_privately(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


HOLD = """
import sys
from pathlib import Path
from agent.sockets import listen_privately
listener = listen_privately(Path(sys.argv[1]))
sys.stdout.write("listening\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def test_the_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"listening\n"
            with pytest.raises(Refused, match="a live process listens there"):
                listen_privately(path)
        finally:
            holder.kill()
    listen_privately(path).close()


def test_a_path_that_is_too_long_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = tmp_path / "sub" / ("a" * 120)
    with pytest.raises(Refused, match="107 bytes"):
        listen_privately(path)
    assert not path.parent.exists()


def test_a_symlink_to_a_folder_of_our_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(Refused, match="not a folder of the agent's own"):
        private_folder(tmp_path / "link")


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root, to give a folder away")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, NOBODY, NOBODY)
    with pytest.raises(Refused, match="not a folder of the agent's own"):
        private_folder(foreign)
