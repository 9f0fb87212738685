"""scripts/test-parts.sh, with a stand-in for go that takes no minutes: what is kept, when, and what is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.needs import need_program

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/test-parts.sh"
PROGRAMS = {"kube-apiserver", "kube-scheduler", "kubectl"}

GO = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$1 $2" in
"env GOVERSION") echo "go$VERSION" ;;
"env GOARCH") echo amd64 ;;
"mod download") [ "$3" != -json ] || echo "$DOWNLOADED" ;;
esac
if [ "$1" = build ]; then
	[ -z "$BROKEN" ] || { echo "x.go:1:1: $BROKEN"; exit 1; }
	while [ "$1" != -o ]; do shift; done
	for name in kube-apiserver kube-scheduler kubectl; do
		echo '#!/bin/sh' >"$2$name" && chmod +x "$2$name"
		[ ! -e "$GATE" ] || read -r _ <"$GATE"
	done
fi
"""


class Parts:
    """The script over a cache and a go of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache/kernelsecret/test-parts"
        self.calls = folder / "calls"
        self.calls.touch()
        self.gate = folder / "gate"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "go").write_text(GO)
        (bin_folder / "go").chmod(0o755)
        self.env = {
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "GATE": str(self.gate),
            "VERSION": "1.99",
        }

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        env = self.env | variables
        return subprocess.run([SCRIPT, *words], env=env, capture_output=True, text=True, check=False, timeout=60)

    def begun(self, *words: str) -> subprocess.Popen[str]:
        """Run it, in a session of its own."""
        return subprocess.Popen(
            [SCRIPT, *words],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def called(self, what: str) -> int:
        """How often go was called with this first word."""
        return sum(line.split()[0] == what for line in self.calls.read_text().splitlines())

    def kept(self) -> set[str]:
        """Programs in folders that count as built."""
        folders = [path for path in self.cache.glob("kubernetes-*") if path.is_dir() and path.suffix != ".part"]
        return {program.name for folder in folders for program in folder.iterdir()}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    need_program("flock")
    return Parts(tmp_path)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_build_is_kept_and_the_second_one_does_nothing(parts: Parts) -> None:
    assert parts.run("where").returncode == 1
    first = parts.run("build")
    assert first.returncode == 0, first.stderr
    assert parts.kept() == PROGRAMS
    second = parts.run("build")
    assert (second.returncode, second.stdout, parts.called("build")) == (0, "", 1)
    where = Path(parts.run("where").stdout.strip())
    assert {path.name for path in where.iterdir()} == PROGRAMS


def test_the_folder_is_named_by_version_and_by_what_it_is_built_from(parts: Parts) -> None:
    parts.run("build")
    version = re.search(
        r"^require k8s.io/kubernetes (\S+)", (ROOT / "tests/apiserver/go.mod").read_text(), re.MULTILINE
    )
    assert version is not None
    name = Path(parts.run("where").stdout.strip()).name
    assert re.fullmatch(rf"kubernetes-{re.escape(version[1])}-[0-9a-f]{{12}}", name)


def test_a_build_that_is_killed_leaves_nothing_that_looks_whole(parts: Parts) -> None:
    os.mkfifo(parts.gate)
    build = parts.begun("build")
    until(lambda: list(parts.cache.glob("*.part/kube-apiserver")))
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    assert build.stdout is not None
    build.stdout.close()
    assert parts.kept() == set()
    assert parts.run("where").returncode == 1
    # What it had started may still hold the lock; it ends here.
    os.close(os.open(parts.gate, os.O_RDWR | os.O_NONBLOCK))
    parts.gate.unlink()


def test_two_builds_at_once_are_one(parts: Parts) -> None:
    os.mkfifo(parts.gate)
    first = parts.begun("build")
    until(lambda: list(parts.cache.glob("*.part/kube-apiserver")))
    second = parts.begun("build")
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    gate = os.open(parts.gate, os.O_RDWR)
    try:
        os.write(gate, b"on\n" * len(PROGRAMS))
        assert (first.wait(30), second.wait(30)) == (0, 0)
    finally:
        os.close(gate)
    for process in (first, second):
        assert process.stdout is not None
        process.stdout.close()
    assert (parts.kept(), parts.called("build")) == (PROGRAMS, 1)


def test_a_build_in_the_background_is_waited_for(parts: Parts) -> None:
    started = parts.run("start")
    assert "in the background" in started.stdout
    ended = parts.run("build")
    assert ended.returncode == 0
    assert (parts.kept(), parts.called("build")) == (PROGRAMS, 1)
    assert parts.run("start").stdout == ""


def test_a_build_that_fails_shows_the_end_of_its_log_and_keeps_nothing(parts: Parts) -> None:
    failed = parts.run("build", BROKEN="undefined: y")
    assert failed.returncode == 1
    assert "undefined: y" in failed.stderr
    assert str(parts.cache) in failed.stderr
    assert parts.kept() == set()


def test_programs_that_people_bring_win_and_nothing_is_built(parts: Parts) -> None:
    assert parts.run("where", KUBEBUILDER_ASSETS="/opt/assets").stdout == "/opt/assets\n"
    assert parts.run("build", KUBEBUILDER_ASSETS="/opt/assets").returncode == 0
    assert parts.calls.read_text() == ""


def test_a_machine_without_go_is_told_so_and_builds_nothing(parts: Parts, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("bash", "env", "awk", "cat", "cut", "dirname", "sha256sum"):
        (few / name).symlink_to(need_program(name))
    for word in ("build", "start"):
        said = parts.run(word, PATH=str(few))
        assert (said.returncode, said.stderr) == (0, "")
        assert "golang-go" in said.stdout


def test_a_newer_go_with_another_sum_is_not_used(parts: Parts, tmp_path: Path) -> None:
    answer = f'{{\n\t"Dir": "{tmp_path}",\n\t"Sum": "h1:somethingelse="\n}}'
    failed = parts.run("build", VERSION="1.19.8", DOWNLOADED=answer)
    assert failed.returncode == 1
    assert "is not what tests/apiserver/toolchain.sum says" in failed.stderr
    assert parts.called("build") == 0


def test_a_newer_go_with_the_right_sum_builds(parts: Parts, tmp_path: Path) -> None:
    sums = dict(line.split()[1:] for line in (ROOT / "tests/apiserver/toolchain.sum").read_text().splitlines())
    newer = tmp_path / "newer"
    for folder in ("bin", "pkg/tool/linux_amd64"):
        (newer / folder).mkdir(parents=True)
    (newer / "pkg/tool/linux_amd64/compile").touch(0o644)
    (newer / "bin/go").write_text(GO.replace('echo "$@" >>', 'echo "newer-$@" >>'))
    (newer / "bin/go").chmod(0o644)
    version = next(version for version in sums if version.endswith("linux-amd64"))
    answer = f'{{\n\t"Dir": "{newer}",\n\t"Sum": "{sums[version]}",\n\t"GoModSum": "h1:x="\n}}'
    built = parts.run("build", VERSION="1.19.8", DOWNLOADED=answer)
    assert built.returncode == 0, built.stderr
    assert (parts.called("build"), parts.called("newer-build"), parts.kept()) == (0, 1, PROGRAMS)
