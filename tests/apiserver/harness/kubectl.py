"""kubectl, as a user runs it, against one API server."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0


@dataclass(frozen=True)
class Ran:
    """What kubectl did: exit status, and what it wrote."""

    status: int
    out: str
    err: str


class Kubectl:
    """Runs `program` with a kubeconfig, whose context says the namespace where neither command nor object does."""

    def __init__(self, program: Path, kubeconfig: Path, home: Path) -> None:
        self._program = program
        self._kubeconfig = kubeconfig
        self._home = home

    def within(self, namespace: str) -> Kubectl:
        """The same user in another namespace."""
        settings = json.loads(self._kubeconfig.read_text())
        settings["contexts"][0]["context"]["namespace"] = namespace
        path = self._kubeconfig.with_name(f"{self._kubeconfig.stem}.{namespace}.json")
        path.touch(mode=0o600)
        path.write_text(json.dumps(settings))
        return Kubectl(self._program, path, self._home)

    def run(self, *words: str, given: object = None) -> Ran:
        """Run it; `given` goes to standard input: text, one object, or a list of objects."""
        ran = subprocess.run(
            [self._program, f"--kubeconfig={self._kubeconfig}", *words],
            input="" if given is None else manifest(given),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            # Its caches, and no settings of whoever runs the tests.
            env={"HOME": str(self._home), "PATH": os.environ.get("PATH", os.defpath)},
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def __call__(self, *words: str, given: object = None) -> str:
        """Run it; what it wrote. AssertionError with what it said where it failed."""
        ran = self.run(*words, given=given)
        assert ran.status == 0, f"kubectl {' '.join(words)}: {ran.err}"
        return ran.out

    def refused(self, *words: str, given: object = None) -> str:
        """Run it; how it was refused. AssertionError where it was not."""
        ran = self.run(*words, given=given)
        assert ran.status != 0, f"kubectl {' '.join(words)} was not refused: {ran.out}"
        return ran.err

    def apply(self, *objects: object) -> str:
        """kubectl apply of these objects, from one file."""
        return self("apply", "--filename=-", given=list(objects))

    def get(self, *words: str) -> Any:
        """kubectl get, as JSON."""
        return json.loads(self("get", "--output=json", *words))


def manifest(given: object) -> str:
    """Text as it is; an object as JSON; several as one file of them."""
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        # `items` of a List are one file for kubectl, in this order.
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": given})
    return json.dumps(given)
