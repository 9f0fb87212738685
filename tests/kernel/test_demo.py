"""The demonstration shows what it claims, and leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelsecret.cli.demo.stage import UID_BEGINS
from kernelsecret.cli.simulation.cgroups import read_hierarchies

DEMO = [sys.executable, "-m", "kernelsecret.cli.main", "demo"]


def traces() -> set[str]:
    """Whatever a demonstration could leave: folders, mounts, cgroups, processes."""
    found = {str(path) for path in Path(tempfile.gettempdir()).glob("kernelsecret-demo-*")}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found |= {line.split()[4] for line in mounts if "/kernelsecret-demo-" in line}
    for root in read_hierarchies():
        found |= {str(path) for path in root.glob(f"kubepods/burstable/pod{UID_BEGINS}*")}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"kernelsecret-demo-" in path.read_bytes():
                found.add(str(path))
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    before = traces()
    yield
    assert traces() - before == set()


def test_everything_is_shown_by_the_kernels_engine() -> None:
    ran = subprocess.run([*DEMO, "--output", "json"], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert shown.pop("p50_ms") < 100
    assert shown.pop("p99_ms") < 2000  # how fast is the benchmark's to judge; here the machine may be busy
    assert shown.pop("reads") > 1000
    assert shown == {
        "engine": "iter",
        "rotations": 10,
        "failed_reads": 0,
        "restarts": 0,
        "agent_killed": True,
        "refused": {"other_pod": True, "entered_shell": True, "orphan": True, "spawned_shell": True},
    }


def test_without_bpf_it_shows_the_rest_and_says_what_it_did_not_try() -> None:
    command = [*DEMO, "--output", "json", "--engine", "tmpfs"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    assert shown["engine"] == "tmpfs"
    assert shown["rotations"] == 10
    assert shown["agent_killed"] is True
    assert set(shown["refused"].values()) == {False}
    assert "that readers are refused was not tried" in ran.stderr


def test_people_see_each_step(tmp_path: Path) -> None:
    ran = subprocess.run(DEMO, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "10/10" in ran.stdout
    assert ran.stdout.count("✓ refused") == 4
    assert "Everything was removed again." in ran.stdout


def test_interrupted_in_the_middle_it_removes_everything() -> None:
    # Whoever runs the tests in the background may have them ignore the signal.
    interruptible = ["env", "--default-signal=INT", *DEMO]
    process = subprocess.Popen(interruptible, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if " 2/10" in line:
            process.send_signal(signal.SIGINT)
            break
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; everything was removed again" in stderr
