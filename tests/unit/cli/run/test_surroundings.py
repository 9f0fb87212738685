"""Where it runs: as a container's first process, where /proc hides processes or is not there, and over a COMMAND that
changes its account. Namespaces of our own stand for containers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.needs import need
from tests.unit.cli.run.commanded import CTL, environment, replaced

OF_ROOT = ("unshare", "--mount", "--pid", "--fork")
CONTAINERS = (OF_ROOT, (*OF_ROOT, "--user", "--map-root-user"))
SHOW = ("sh", "-c", 'echo "$A"; cat "$A"')


def inside(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    given = environment(**variables)
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A reference."""
    return f"file:{replaced(tmp_path / 'app' / 'password', 'value')}"


@pytest.fixture
def container() -> Sequence[str]:
    """What runs a command as root of namespaces of its own."""
    mount = ("mount", "-t", "proc", "proc", "/proc")
    works = [one for one in CONTAINERS if inside(*one, *mount).returncode == 0]
    need(works, "root, or user namespaces")
    return works[0]


def test_it_is_the_first_process_of_a_container(container: Sequence[str], secret: str) -> None:
    orphan = "(sh -c 'exit 3' & ) ; cat /proc/1/cmdline | tr '\\0' ' '; exit 5"
    done = inside(*container, "--mount-proc", *CTL, "--", "sh", "-c", f'echo "$A"; cat "$A"; echo; {orphan}', A=secret)
    path, value, first = done.stdout.splitlines()
    assert path.startswith("/proc/1/fd/")
    assert value == "value"
    assert "kernelsecret.cli.run.supervise" in first
    assert done.returncode == 5


@pytest.mark.parametrize("hidepid", ["1", "2", "4"])
def test_a_proc_that_hides_processes_of_others_shows_what_is_ones_own(
    container: Sequence[str], secret: str, hidepid: str
) -> None:
    mount = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    done = inside(*container, "sh", "-c", mount, "sh", *CTL, "--", *SHOW, A=secret)
    assert done.stdout.endswith("value"), done.stderr


def test_without_proc_nothing_is_started_and_that_is_said(container: Sequence[str], secret: str) -> None:
    hide = 'mount -t tmpfs none /proc && exec "$@"'
    done = inside(*container, "sh", "-c", hide, "sh", *CTL, "--", *SHOW, A=secret)
    assert (done.stdout, done.returncode) == ("", 1)
    assert "there is no /proc, and below it COMMAND opens its values: mount it" in done.stderr


def test_a_command_that_becomes_another_account_cannot_open_what_is_ours(secret: str) -> None:
    need(os.geteuid() == 0, "root")
    other = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = inside(*CTL, "--", *other, *SHOW, A=secret)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    done = inside(*CTL, "--pass", "pipe", "--", *other, "sh", "-c", 'fd="${A##*/}"; cat <&"$fd"', A=secret)
    assert done.stdout == "value", "an inherited pipe is the new account's too, by its number"
