"""Where the programs run: containers of one pod that have the volume, and the shim, as admission gives them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kernelsecret import names
from kernelsecret.cli.simulation.pod import Container, Pod
from tests.agent.preload.values import VALUE
from tests.vault.harness.programs import lacks_postgres

NAME: Final = "programs"
"""The interceptor."""
LIVE: Final = f"{names.MOUNT_ROOT}/{NAME}"
PREFIX: Final = "/app/secrets"
"""A folder that no container has: it is there through the shim alone."""
MOUNTED: Final = "/app/value"
"""Where the containers mount one file by subPath."""
TOOLS: Final = "/tools"
NEEDED: Final = ("node", "java", "javac", "musl-gcc", "busybox", "curl", "nginx")
"""And PostgreSQL with its client; scripts/apt-packages.txt says which packages have them."""


@dataclass(frozen=True, slots=True)
class Place:
    """A pod with its volumes: folders of the host by what they are called below /var/run/secrets. `tools` is what the
    programs bring along, and where they may write."""

    pod: Pod
    volumes: Mapping[str, Path]
    tools: Path

    @property
    def live(self) -> str:
        """The file that programs read, where the volume is mounted."""
        return f"{LIVE}/{VALUE}"

    @property
    def prefixed(self) -> str:
        """The same file by the configured prefix."""
        return f"{PREFIX}/{VALUE}"

    def start(self, name: str, command: Sequence[str], *, stdin: bool = False, **environment: str) -> Container:
        """A container."""
        wanted = {
            names.ENV_PRELOAD: f"{names.SHIM_ROOT}/{names.SHIM_FILE}",
            names.ENV_SHIM_PATHS: f"{LIVE}:{MOUNTED}={LIVE}/{VALUE}:{PREFIX}={LIVE}",
        }
        binds = {TOOLS: self.tools, MOUNTED: self.volumes[NAME] / VALUE}
        return self.pod.container(
            name, command, self.volumes, binds=binds, environment=wanted | environment, stdin=stdin
        )


def path_of(name: str) -> str:
    """A program of this machine, itself: a link may lead to where a container has nothing. Raises LookupError."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if not found:
        raise LookupError(f"the program {name}")
    return os.path.realpath(found)


def lack() -> str | None:
    """What this machine has not of what the matrix runs, or None."""
    try:
        for name in NEEDED:
            path_of(name)
    except LookupError as error:
        return str(error)
    return lacks_postgres()


def has_shim(container: Container) -> bool:
    """Whether the shim is mapped into its first process."""
    return names.SHIM_FILE in Path(f"/proc/{container.pid}/maps").read_text()
