"""What a node or a pod cannot have of what was decided or asked for: what the agent does then, and who is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agent.delivery import mounts
from agent.idmapped import FIRST_ID, user_namespace
from kernelsecret.names import ANNOTATION_CHOSEN_MODE, LABEL_IDMAPPED, SHIM_FILE, VOLUME_NAME, VOLUME_SHIM
from tests.apiserver.harness.objects import interceptor, pod
from tests.apiserver.harness.stored import running
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.whole import WholeNode
from webhook.policy.served import ENFORCING_ENGINES

VALUE = b"first-value-canary"
WAIVED: dict[str, Any] = {"unenforced": "allow"}


def owner_in_pod(volume: Path, file: str) -> int:
    """Whose a file is for a pod with a user namespace of its own, as the host's number; it can be opened."""
    with user_namespace() as namespace:
        tree = mounts.clone_idmapped(volume, namespace)
    try:
        descriptor = os.open(file, os.O_RDONLY, dir_fd=tree)
        try:
            return os.fstat(descriptor).st_uid
        finally:
            os.close(descriptor)
    finally:
        os.close(tree)


async def test_a_node_that_can_do_less_than_it_said_serves_who_waived_the_rule_and_tells_and_refuses_others(
    node: WholeNode,
) -> None:
    node.secret("shop/db", {"password": VALUE})
    node.of.kubectl.apply(interceptor("waives", node.name, access=WAIVED), interceptor("holds", node.name))
    await node.joined()
    engine = node.label()
    assert engine in ENFORCING_ENGINES
    waived, held = node.applied("waived", "waives"), node.applied("held", "holds")
    assert node.stop() == 0
    await node.started(engine="tmpfs")

    await node.mounted(waived)
    await node.publish(waived)
    assert node.program(waived).read(waived.target / "password") == [VALUE]
    until(lambda: node.told("waived", "ServedUnenforced"), "the pod's owner is told", explain=node.said)
    [event] = node.told("waived", "ServedUnenforced")
    assert (event["type"], event["reportingController"]) == ("Warning", "kernelsecret.io/agent")
    said = "the access rule `from: app` of waives is not held: served by tmpfs, as spec.access.unenforced allows"
    assert event["note"].startswith(said)
    [record] = node.audited("served-unenforced")
    assert (record["pod"], record["engine"]) == ("waived", "tmpfs")
    assert node.metric("kernelsecret_unenforced_volumes_total", engine="tmpfs") == 1

    error = await node.refused(held)
    while error.code == "UNAVAILABLE":  # its registration may still be on its way
        error = await node.refused(held)
    assert error.code == "FAILED_PRECONDITION"
    assert "unenforced" in error.details
    assert "tmpfs" in error.details
    assert not held.target.exists()
    until(lambda: node.label() == "tmpfs", "the label says it", explain=node.said)
    asks = pod("late", "holds", nodeSelector={"kubernetes.io/hostname": node.name})
    tried = ("create", "--filename=-", "--dry-run=server")
    until(lambda: "rule placement" in node.kubectl.run(*tried, given=asks).err, "admission knows it, too")

    # Where the node can do it again, kubelet's next attempt succeeds; nobody has to create the pod anew.
    assert node.stop() == 0
    await node.started()
    await node.mounted(held)
    assert {one["pod"]: one["engine"] for one in node.status()["volumes"]} == {"waived": "tmpfs", "held": engine}
    for one in (waived, held):
        await node.unpublish(one)
    node.assert_kept(VALUE)


async def test_a_pod_with_a_user_namespace_has_the_mode_that_the_agent_has_seen_to_work_there(node: WholeNode) -> None:
    node.secret("shop/db", {"password": VALUE})
    delivery = {"modes": ["ebpf", "preload"]}
    node.of.kubectl.apply(interceptor("mapped", node.name, access=WAIVED, delivery=delivery))
    await node.joined()

    def seen() -> str | None:
        labels: dict[str, str] = node.of.core.read_node(node.name).metadata.labels
        return labels.get(LABEL_IDMAPPED)

    until(seen, "the node says what can be idmapped", explain=node.said)
    if seen() != "tmpfs":
        asks = pod("mapped", "mapped", hostUsers=False, nodeSelector={"kubernetes.io/hostname": node.name})
        assert LABEL_IDMAPPED in node.kubectl.refused("create", "-f-", given=asks)
        return
    # It names its node, so that there is no binding: the webhook hears of it when the agent asks.
    node.bound("mapped", "mapped", hostUsers=False, nodeName=node.name)
    with running(node, "mapped") as made:
        # By `iter` there would be bpffs in it, which has no idmapped mounts.
        assert made.annotations[ANNOTATION_CHOSEN_MODE] == "preload"
        await made.publish()
        until(lambda: made.told("ModeChosen"), "its owner is told of the mode", explain=node.said)
        assert [one["engine"] for one in node.status()["volumes"]] == ["tmpfs"]
        # As a runtime shows volumes to such a pod: its root owns what the host's root owns.
        for volume, file in ((VOLUME_NAME, "password"), (VOLUME_SHIM, SHIM_FILE)):
            assert owner_in_pod(made.volumes[volume].target, file) == FIRST_ID
        await made.unpublish()
