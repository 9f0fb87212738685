"""Folders, locks and socket files, before anybody connects."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.csi.sockets import listen, lock, private_folder, shared_folder
from agent.errors import Refused


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


def test_a_wide_folder_of_our_own_is_tightened(tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir(mode=0o755)
    private_folder(wide)
    assert stat.S_IMODE(wide.stat().st_mode) == 0o700


def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "csi.sock"
    path.write_text("precious")
    with pytest.raises(Refused, match="something else than a socket"):
        listen(path)
    assert path.read_text() == "precious"


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
