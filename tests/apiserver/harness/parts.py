"""Where the programs are that the harness starts: scripts/test-parts.sh builds them, Debian has etcd."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]


def part(name: str) -> Path | None:
    """Path of a program, or None: from KUBEBUILDER_ASSETS, what was built, or (only etcd) the PATH."""
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), _built()):
        if folder and os.access(Path(folder) / name, os.X_OK):
            return Path(folder) / name
    # A kubectl or an API server that happens to be installed is of any version: not taken.
    found = shutil.which(name) if name == "etcd" else None
    return Path(found) if found else None


@cache
def _built() -> str:
    environment = {name: value for name, value in os.environ.items() if name != "KUBEBUILDER_ASSETS"}
    asked = [str(ROOT / "scripts/test-parts.sh"), "where", "kubernetes"]
    return subprocess.run(asked, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
