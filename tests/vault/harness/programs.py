"""Where the programs are that the harness starts: scripts/test-parts.sh builds Vault, Debian has PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
DEBIAN: Final = Path("/usr/lib/postgresql/15/bin")
HOW: Final = "(make test-vault builds and installs what is missing)"


def vault_program() -> Path | None:
    """Path of vault (server, agent and CLI), or None: VAULT_BIN, or what was built."""
    brought = os.environ.get("VAULT_BIN")
    found = Path(brought) if brought else Path(_built() or os.devnull) / "vault"
    return found if os.access(found, os.X_OK) else None


def postgres_program(name: str) -> Path | None:
    """Path of a program of the PostgreSQL server (initdb, postgres), or None: Debian's, or one on PATH."""
    found = shutil.which(name, path=f"{DEBIAN}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    return Path(found) if found else None


def lacks_vault() -> str | None:
    """That Vault is not there, and how it comes, or None."""
    return None if vault_program() else f"vault {HOW}"


def lacks_postgres() -> str | None:
    """That PostgreSQL's server is not there, and how it comes, or None."""
    return None if postgres_program("initdb") and postgres_program("postgres") else f"postgresql-15 {HOW}"


@cache
def _built() -> str:
    environment = {name: value for name, value in os.environ.items() if name != "VAULT_BIN"}
    asked = [str(ROOT / "scripts/test-parts.sh"), "where", "vault"]
    return subprocess.run(asked, env=environment, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
