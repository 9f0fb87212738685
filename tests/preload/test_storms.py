"""Many threads that read and go back while files rotate at full speed; handlers of signals, and forks, amid it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.preload.building import Built, Kind

MILLISECONDS = 1000


@pytest.mark.parametrize("storm", ["threads", "signals", "forks"])
def test_every_read_is_whole_and_none_is_older_than_the_rewind(
    built: Built, kind: Kind, tmp_path: Path, storm: str
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    done = subprocess.run(
        [built.program("storm", kind), storm, live, str(MILLISECONDS)],
        env=built.environment(kind, str(live)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    reads, rotations, handled = map(int, done.stdout.split())
    assert reads > 200
    assert rotations > 20
    assert (handled > 20) == (storm == "signals")


def test_without_the_shim_the_same_program_sees_old_values(built: Built, tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    program = built.program("storm", Kind("glibc"))
    done = subprocess.run([program, "threads", live, "200"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "wrong: an old value" in done.stderr
