"""The command of the product, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.apiserver.harness.cluster import Cluster


def explain(cluster: Cluster, namespace: str, *words: str, given: object = None) -> subprocess.CompletedProcess[str]:
    """`kernelsecret-ctl explain` as a cluster admin; `given` is the manifest of `-f -`."""
    command = [sys.executable, "-m", "kernelsecret.cli.main", "explain", *words, "-n", namespace]
    command += ["--kubeconfig", str(cluster.server.admin)]
    return subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False)
