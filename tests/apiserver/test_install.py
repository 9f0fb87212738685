"""What docs/install.md says to do with the manifests works."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from kernelsecret.names import DRIVER_NAME
from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.parts import ROOT
from tests.apiserver.harness.product import BASE


def driver(cluster: Cluster, folder: Path) -> dict[str, Any]:
    built = yaml.safe_load_all(cluster.kubectl("kustomize", str(folder)))
    [found] = [thing for thing in built if thing["kind"] == "CSIDriver"]
    assert found["metadata"]["name"] == DRIVER_NAME
    spec: dict[str, Any] = found["spec"]
    return spec


def test_the_field_that_older_clusters_do_not_know_is_taken_out_as_documented(cluster: Cluster, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "install.md").read_text().partition("**Kubernetes before 1.35**")[2]
    block = re.search(r"```yaml\n(patches:.*?)```", text, re.DOTALL)
    assert block is not None
    overlay = {"resources": [os.path.relpath(BASE, tmp_path)], **yaml.safe_load(block[1])}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    before, after = driver(cluster, BASE), driver(cluster, tmp_path)
    assert before.pop("serviceAccountTokenInSecrets") is True
    assert after == before


def test_the_driver_is_kept_by_the_api_server_as_it_was_applied(installed: Cluster) -> None:
    kept = installed.kubectl.get("csidriver", DRIVER_NAME)["spec"]
    asked = driver(installed, BASE)
    assert {name: kept[name] for name in asked} == asked
