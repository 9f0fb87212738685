from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.observe.records import to_line
from kernelsecret.errors import Refused
from telemetry.audit import AuditLog
from tests.unit.conftest import LogLines
from tests.unit.observe.samples import ALL, read


def lines(path: Path) -> list[int]:
    return [json.loads(line)["pid"] for line in path.read_text().splitlines()]


def test_every_kind_of_record_becomes_one_line(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit")
    for record in ALL:
        audit.write(to_line(record))
    audit.close()
    written = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["event"] for line in written] == [record.event for record in ALL]


def test_only_the_owner_can_read_it_even_if_it_was_open_before(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    path.touch(0o644)
    AuditLog(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_appends_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    for number in (1, 2):
        audit = AuditLog(path)
        audit.write(to_line(read(pid=number)))
        audit.close()
    assert lines(path) == [1, 2]


def test_a_rotation_by_rename_or_removal_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    audit = AuditLog(path)
    audit.write(to_line(read(pid=1)))
    path.rename(tmp_path / "audit.1")
    audit.write(to_line(read(pid=2)))
    path.unlink()
    audit.write(to_line(read(pid=3)))
    audit.reopen()
    audit.write(to_line(read(pid=4)))
    audit.close()
    assert lines(tmp_path / "audit.1") == [1]
    assert lines(path) == [3, 4]


def test_symlinks_folders_and_pipes_are_refused_with_the_variable_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing/audit"):
        with pytest.raises(Refused, match="KERNELSECRET_AUDIT_LOG"):
            AuditLog(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_that_has_a_reader_is_refused_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(Refused, match="EPERM"):
            AuditLog(tmp_path / "pipe")
    finally:
        os.close(reader)


def test_a_full_disk_is_counted_and_logged_once_and_the_next_line_starts_afresh(
    tmp_path: Path, log_lines: LogLines
) -> None:
    """A real short write: the file size limit lets only part of a line through."""
    failures: list[int] = []
    path = tmp_path / "audit"
    audit = AuditLog(path, on_failure=lambda: failures.append(1))
    audit.write(to_line(read(pid=1)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        audit.write(to_line(read(pid=2)))
        audit.write(to_line(read(pid=3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    audit.write(to_line(read(pid=4)))
    audit.close()
    first, torn, last = path.read_text().splitlines()
    assert json.loads(first)["pid"] == 1
    assert len(torn) == 10
    assert json.loads(last)["pid"] == 4
    assert len(failures) == 2
    assert [line["event"] for line in log_lines.lines] == ["audit log cannot be written", "audit log written again"]


def test_a_vanished_folder_is_counted_and_the_log_comes_back_with_it(tmp_path: Path, log_lines: LogLines) -> None:
    failures: list[int] = []
    path = tmp_path / "var" / "audit"
    path.parent.mkdir()
    audit = AuditLog(path, on_failure=lambda: failures.append(1))
    path.unlink()
    path.parent.rmdir()
    audit.write(to_line(read(pid=1)))
    audit.reopen()
    path.parent.mkdir()
    audit.write(to_line(read(pid=2)))
    audit.close()
    assert lines(path) == [2]
    assert len(failures) == 2
    assert log_lines.lines[0]["errno"] == errno.errorcode[errno.ENOENT]


def test_standard_output_is_a_place_too() -> None:
    code = (
        "from telemetry.audit import AuditLog\n"
        "from agent.observe.records import to_line\n"
        "from tests.unit.observe.samples import READ\n"
        "audit = AuditLog(None)\naudit.write(to_line(READ))\naudit.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout)["file"] == "tls.crt"
