"""The documented files, taken together, open the volume that they describe."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from agent.decision import decide
from agent.kube.files import FileCluster
from agent.model import PodRef, PublishRequest
from tests.unit.contract.builders import EXAMPLES


async def test_the_documented_files_open_the_volume(tmp_path: Path) -> None:
    root = tmp_path / "cluster"
    shutil.copytree(EXAMPLES, root)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    cluster = FileCluster(root, owner_uid=os.geteuid())
    pod = await cluster.pod("payments", "api-0")
    target = Path(f"/var/lib/kubelet/pods/{pod.uid}/volumes/kubernetes.io~csi/kernelsecret-payments-db/mount")
    asked = PodRef(pod.namespace, pod.name, pod.uid, pod.service_account)
    plan = decide(
        PublishRequest("csi-1", target, asked, "payments-db"),
        pod,
        await cluster.interceptor("payments-db"),
        await cluster.registration(asked),
        "node-1",
        now=datetime.now(UTC),
    )
    assert [file.name for file in plan.files] == ["username", "password"]
