"""What the repository promises about itself: locks without addresses, listed targets, no trace of a machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.needs import need_program

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "scripts/bootstrap.lock")
BINARY = {".png", ".o", ".so", ".gz"}

# Put together here, so that this file does not name what it looks for.
REGISTRIES = [
    "pypi" + ".org",
    "python" + "hosted",
    "npm" + "js.",
    "crates" + ".io",
    "proxy.go" + "lang",
    "deb." + "debian",
]
MACHINE = [r"/home/" + r"[a-z]\w+/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/"]


def in_git() -> list[Path]:
    git = need_program("git")
    listed = subprocess.run(
        [git, "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file() and Path(name).suffix not in BINARY]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_hashes(lock: str) -> None:
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_says_nothing_of_where_packages_come_from(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for word in ("://", "--index-url", "--extra-index-url", "--find-links", "--trusted-host", " @ "):
        assert word not in text


def test_the_lock_covers_every_dependency_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    for extra in project["project"]["optional-dependencies"].values():
        asked += extra
    locked = {
        normal(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line
    }
    assert {normal(re.split(r"[<>=~! ;\[]", name)[0]) for name in asked} <= locked


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    shown = subprocess.run([need_program("make"), "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)
    rules = re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE)
    assert sorted(listed) == sorted(phony.group(1).split()) == sorted(rules)
    assert {"help", "demo", "test", "lint", "format", "bench", "build"} <= set(listed)


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    pattern = re.compile(
        "|".join([re.escape(word) for word in REGISTRIES] + [rf"(?<![\w.}}]){path}" for path in MACHINE])
    )
    found = []
    for path in in_git():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_every_package_of_debian_has_a_use_and_a_proof() -> None:
    lines = (ROOT / "scripts/apt-packages.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    for row in rows:
        assert len(row) >= 3, row
        assert row[0] in {"build", "test", "bench", "kernels"}
    packages = [row[1] for row in rows]
    assert len(packages) == len(set(packages))
