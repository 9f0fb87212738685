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
KUBERNETES = {"kube-apiserver", "kube-scheduler", "kubectl"}
PROGRAMS = KUBERNETES | {"vault"}
VAULT = ROOT / "tests/vault/part"

GO = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$1 $2 $4" in
"env GOVERSION ") echo "go$VERSION" ;;
"env GOARCH ") echo amd64 ;;
"mod download github.com/hashicorp/vault@"*)
	printf '{\\n\\t"Dir": "%s",\\n\\t"Sum": "%s"\\n}\\n' "$MODULE" "$MODULE_SUM"
	;;
"mod download golang.org/toolchain@"*) echo "$DOWNLOADED" ;;
esac
if [ "$1" = build ]; then
	[ -z "$BROKEN" ] || { echo "x.go:1:1: $BROKEN"; exit 1; }
	while [ "$1" != -o ]; do shift; done
	case $2 in
	*/) set -- "$2kube-apiserver" "$2kube-scheduler" "$2kubectl" ;;
	*) set -- "$2" ;;
	esac
	for program; do
		echo '#!/bin/sh' >"$program" && chmod +x "$program"
		[ ! -e "$GATE" ] || read -r _ <"$GATE"
	done
fi
"""


def before(patch: str) -> dict[str, list[str]]:
    """The files that a patch is for, as far as it shows them: the rest of them is empty lines."""
    files: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in patch[patch.index("--- a/") :].splitlines():
        if line.startswith("--- a/"):
            lines = files.setdefault(line.removeprefix("--- a/"), [])
        elif start := re.match(r"@@ -(\d+)", line):
            lines += [""] * (int(start[1]) - 1 - len(lines))
        elif line[0] in " -":
            lines.append(line[1:])
    return files


class Parts:
    """The script over a cache, a go and a module of Vault of its own."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache/kernelsecret/test-parts"
        self.calls = folder / "calls"
        self.calls.touch()
        self.gate = folder / "gate"
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "go").write_text(GO)
        (bin_folder / "go").chmod(0o755)
        self.module = folder / "module"
        for name, lines in before((VAULT / "module.patch").read_text()).items():
            (self.module / name).parent.mkdir(parents=True, exist_ok=True)
            (self.module / name).write_text("\n".join(lines) + "\n")
            (self.module / name).chmod(0o444)  # as in Go's cache
        self.env = {
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "GATE": str(self.gate),
            "MODULE": str(self.module),
            "MODULE_SUM": (VAULT / "module.sum").read_text().split()[2],
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
        folders = [path for path in self.cache.glob("*") if path.is_dir() and path.suffix != ".part"]
        return {program.name for folder in folders for program in folder.iterdir()}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    need_program("flock")
    need_program("patch")
    return Parts(tmp_path)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_build_is_kept_and_the_second_one_does_nothing(parts: Parts) -> None:
    assert [parts.run("where", part).returncode for part in ("kubernetes", "vault")] == [1, 1]
    first = parts.run("build")
    assert first.returncode == 0, first.stderr
    assert parts.kept() == PROGRAMS
    second = parts.run("build")
    assert (second.returncode, second.stdout, parts.called("build")) == (0, "", 2)


def test_one_part_is_built_without_the_other(parts: Parts) -> None:
    assert parts.run("build", "vault").returncode == 0
    assert parts.kept() == {"vault"}
    assert parts.run("where", "kubernetes").returncode == 1
    assert parts.run("build", "kubernetes").returncode == 0
    assert parts.kept() == PROGRAMS


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(parts: Parts) -> None:
    for words in (("build", "nomad"), ("where", "nomad"), ("where",)):
        refused = parts.run(*words)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "there are: kubernetes vault" in refused.stderr


def test_a_folder_is_named_by_version_and_by_what_it_is_built_from(parts: Parts) -> None:
    parts.run("build")
    go_mod = (ROOT / "tests/apiserver/go.mod").read_text()
    version = re.search(r"^require k8s.io/kubernetes (\S+)", go_mod, re.MULTILINE)
    assert version is not None
    versions = {"kubernetes": version[1], "vault": (VAULT / "module.sum").read_text().split()[1]}
    for part, programs in (("kubernetes", KUBERNETES), ("vault", {"vault"})):
        where = Path(parts.run("where", part).stdout.strip())
        assert re.fullmatch(rf"{part}-{re.escape(versions[part])}-[0-9a-f]{{12}}", where.name)
        assert {path.name for path in where.iterdir()} == programs


def test_a_build_that_is_killed_leaves_nothing_that_looks_whole(parts: Parts) -> None:
    os.mkfifo(parts.gate)
    build = parts.begun("build")
    until(lambda: list(parts.cache.glob("*.part/kube-apiserver")))
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    assert build.stdout is not None
    build.stdout.close()
    assert parts.kept() == set()
    assert parts.run("where", "kubernetes").returncode == 1
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
    assert (parts.kept(), parts.called("build")) == (PROGRAMS, 2)


def test_a_build_in_the_background_is_waited_for(parts: Parts) -> None:
    started = parts.run("start")
    assert "in the background" in started.stdout
    ended = parts.run("build")
    assert ended.returncode == 0
    assert (parts.kept(), parts.called("build")) == (PROGRAMS, 2)
    assert parts.run("start").stdout == ""


def test_a_build_that_fails_shows_the_end_of_its_log_and_keeps_nothing(parts: Parts) -> None:
    failed = parts.run("build", BROKEN="undefined: y")
    assert failed.returncode == 1
    assert "undefined: y" in failed.stderr
    assert str(parts.cache) in failed.stderr
    assert parts.kept() == set()


def test_programs_that_people_bring_win_and_are_not_built(parts: Parts) -> None:
    both = {"KUBEBUILDER_ASSETS": "/opt/assets", "VAULT_BIN": "/opt/bin/vault"}
    assert parts.run("where", "kubernetes", **both).stdout == "/opt/assets\n"
    assert parts.run("where", "vault", **both).stdout == "/opt/bin\n"
    assert [parts.run(word, **both).returncode for word in ("start", "build")] == [0, 0]
    assert parts.calls.read_text() == ""
    assert parts.run("build", VAULT_BIN="/opt/bin/vault").returncode == 0
    assert parts.kept() == KUBERNETES


def test_a_module_of_vault_with_another_sum_is_not_built(parts: Parts) -> None:
    failed = parts.run("build", "vault", MODULE_SUM="h1:somethingelse=")
    assert failed.returncode == 1
    assert "is not what tests/vault/part/module.sum says" in failed.stderr
    assert (parts.called("build"), parts.kept()) == (0, set())


def test_a_module_of_vault_that_the_patch_does_not_fit_is_not_built(parts: Parts) -> None:
    changed = parts.module / "vault/identity_store.go"
    changed.chmod(0o644)
    changed.write_text(changed.read_text().replace("iStore.activateDeduplication", "iStore.activate"))
    failed = parts.run("build", "vault")
    assert failed.returncode == 1
    assert "FAILED" in failed.stderr
    assert (parts.called("build"), parts.kept()) == (0, set())


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
    failed = parts.run("build", "kubernetes", VERSION="1.19.8", DOWNLOADED=answer)
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
    built = parts.run("build", "kubernetes", VERSION="1.19.8", DOWNLOADED=answer)
    assert built.returncode == 0, built.stderr
    assert (parts.called("build"), parts.called("newer-build"), parts.kept()) == (0, 1, KUBERNETES)
