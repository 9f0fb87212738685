"""Finding executables of a process, and signals to it; on this process and its children, which need no root."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.delivery.processes import find_executable, opened, running_executable, send

SLEEP = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
NOBODY = 2**22 + 1
"""Above every pid that Linux gives."""


def test_what_runs_is_found_at_its_path() -> None:
    found = find_executable(os.getpid(), os.path.realpath(sys.executable))
    assert found is not None
    assert found == running_executable(os.getpid())


def test_a_symlink_leads_to_the_file_it_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(os.path.realpath(sys.executable))
    assert find_executable(os.getpid(), str(tmp_path / "link")) == running_executable(os.getpid())


def test_a_copy_is_another_file(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(Path(sys.executable).resolve().read_bytes())
    found = find_executable(os.getpid(), str(copy))
    assert found is not None
    assert found != running_executable(os.getpid())


def test_what_is_not_there_is_not_found() -> None:
    assert find_executable(os.getpid(), "/no/such/program") is None
    assert find_executable(NOBODY, "/bin/sh") is None
    assert running_executable(NOBODY) is None


def test_a_path_does_not_lead_out_of_the_process_root() -> None:
    above = "/../../.." + os.path.realpath(sys.executable)
    assert find_executable(os.getpid(), above) == running_executable(os.getpid())


def test_a_signal_reaches_a_process_and_one_that_is_gone_is_no_error() -> None:
    with subprocess.Popen(SLEEP, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert send(child.pid, signal.SIGTERM) is True
        assert child.wait(timeout=20) == -signal.SIGTERM
    assert send(child.pid, signal.SIGTERM) is False
    with opened(NOBODY) as pidfd:
        assert pidfd is None
