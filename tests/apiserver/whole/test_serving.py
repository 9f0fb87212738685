"""From a user's kubectl to a process that reads: the way of a secret through the whole product, and who gets none."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernelsecret.names import DRIVER_NAME, LABEL_IDMAPPED, LABEL_INJECT
from tests.agent.harness import until
from tests.apiserver.harness.objects import container, interceptor, pod
from tests.apiserver.harness.product import away, objects
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode

FIRST, SECOND = b"first-value-canary", b"second-value-canary"


async def test_a_user_opts_in_and_the_pod_reads_its_secret_and_then_the_next_one(node: WholeNode) -> None:
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}-")
    node.of.kubectl.apply(interceptor("flow", node.name))
    asks = pod("web", "true", nodeSelector={"kubernetes.io/hostname": node.name})
    assert "rule namespace" in node.kubectl.refused("apply", "-f-", given=asks)
    node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}=enabled")
    assert "rule placement" in node.kubectl.refused("apply", "-f-", given=asks), "no agent was ever on the node"
    await node.joined()
    empty = node.footprint()

    pod_of_user = node.applied("web", "true")
    eventually(node.held, "the registration is handed over", explain=node.said)
    await node.publish(pod_of_user)
    assert node.asked() == 0
    program = node.program(pod_of_user)
    path = pod_of_user.target / "password"
    assert program.read(path) == [FIRST]
    # What comes into the container later, as `kubectl exec` does, is none of its application.
    assert node.program(pod_of_user).read(path) == [errno.E2BIG]

    node.secret("shop/db", {"password": SECOND})
    await until(lambda: program.read(path) == [SECOND], "the new value is read")
    [published] = node.audited("published")
    assert (published["pod"], published["pod_uid"], published["interceptor"]) == ("web", pod_of_user.ref.uid, "flow")
    await node.unpublish(pod_of_user)
    await node.settled(empty)
    node.assert_kept(FIRST, SECOND)


async def test_the_agent_says_by_its_own_account_what_its_node_can_do_and_that_outlives_it(node: WholeNode) -> None:
    assert node.label() is None
    await node.joined()
    probe = node.status()["probe"]
    assert node.label() == probe["engine"]
    assert node.of.core.read_node(node.name).metadata.labels[LABEL_IDMAPPED] == probe["idmapped"]
    assert (probe["idmapped"] == "none") is bool(probe["idmapped_reason"])
    assert node.stop() == 0
    assert node.label() is not None
    # Who takes it away has it written again by the next agent.
    node.of.kubectl("label", f"node/{node.name}", "kernelsecret.io/engine-")
    await node.started()
    eventually(node.label, "the label is written again", explain=node.said)
    assert "engine-unpublished" not in node.conditions()


async def test_a_pod_that_was_made_anew_under_its_name_is_told_from_the_one_before(node: WholeNode) -> None:
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl.apply(interceptor("anew", node.name))
    await node.joined()
    first = node.applied("web", "anew")
    node.of.remove_pod(node.name, "web")
    second = node.applied("web", "anew")
    error = await node.refused(first)
    field = "volume_context[csi.storage.k8s.io/pod.uid]"
    assert (error.code, error.details.startswith(f"{field}: ")) == ("PERMISSION_DENIED", True)
    record = node.audited("publish-refused")[-1]
    assert (record["pod_uid"], record["field"], record["pod"]) == (first.ref.uid, field, "web")
    await node.mounted(second)
    assert node.program(second).read(second.target / "password") == [FIRST]
    await node.unpublish(second)


@contextmanager
def bypassed(node: WholeNode) -> Iterator[None]:
    """A while in which neither webhook nor policy of ours is asked: whoever may delete them may do anything."""
    bindings = [thing for thing in objects(node.of) if thing["kind"] == "ValidatingAdmissionPolicyBinding"]
    forged = pod("forged", annotations={"kernelsecret.io/interceptor": "x"})
    command = ("create", "--dry-run=server", "--filename=-")
    with away(node.of):
        try:
            node.of.kubectl("delete", "-f-", given=bindings)
            eventually(lambda: node.kubectl.run(*command, given=forged).status == 0, "no policy is asked any more")
            yield
        finally:
            node.of.kubectl.apply(*bindings)
            eventually(lambda: node.kubectl.run(*command, given=forged).status != 0, "the policies hold again")


def by_hand(name: str, node: str, inject: str | None, shows: str, **labels: str) -> dict[str, Any]:
    """A pod as admission would have made it, written by its author."""
    mount = {"name": "kernelsecret", "mountPath": "/var/run/secrets/x", "readOnly": True}
    csi = {"driver": DRIVER_NAME, "readOnly": True, "volumeAttributes": {"kernelsecret.io/interceptor": shows}}
    status = {
        "kernelsecret.io/interceptor": shows,
        "kernelsecret.io/chosen-mode": "ebpf",
        "kernelsecret.io/injected-containers": "app",
    }
    return pod(
        name,
        inject,
        annotations=status,
        labels={"kernelsecret.io/injected": "true", **labels},
        containers=[container("app", volumeMounts=[mount])],
        volumes=[{"name": "kernelsecret", "csi": csi}],
        nodeName=node,
    )


async def test_pods_that_got_past_webhook_and_policies_get_nothing(node: WholeNode) -> None:
    node.secret("shop/db", {"password": FIRST})
    own = {"podSelector": {"matchLabels": {"app": "own"}}}
    node.of.kubectl.apply(interceptor("bypassed", node.name, **own))
    with bypassed(node):
        node.kubectl.apply(by_hand("not-asked", node.name, None, "bypassed", app="own"))
        node.kubectl.apply(by_hand("off", node.name, "false", "bypassed", app="own"))
        node.kubectl.apply(by_hand("not-selected", node.name, "bypassed", "bypassed", app="other"))
        node.kubectl.apply(by_hand("not-there", node.name, "nothing", "nothing", app="own"))
        node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}-")
    await node.joined()
    empty = node.footprint()
    label = f"namespace.metadata.labels[{LABEL_INJECT}]"
    for name in ("not-asked", "not-selected"):
        assert (await node.refused(node.kubelets(name))).details.startswith(f"{label}: ")
    node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}=enabled")
    for name, field in (
        ("not-asked", "metadata.annotations[kernelsecret.io/inject]"),
        ("off", "metadata.annotations[kernelsecret.io/inject]"),
        ("not-selected", "interceptor bypassed: spec.podSelector"),
        ("not-there", "interceptor nothing"),
    ):
        error = await node.refused(node.kubelets(name))
        assert error.details.startswith(f"{field}: "), error
        assert node.audited("publish-refused")[-1]["field"] == field
    assert node.footprint() == empty
    assert node.held() + node.asked() == 0


async def test_a_pod_that_the_webhook_never_saw_has_no_volume_and_kubelet_can_be_told_nothing_else(
    node: WholeNode,
) -> None:
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl.apply(interceptor("unseen", node.name))
    await node.joined()
    with bypassed(node):
        node.kubectl.apply(pod("unseen", "unseen", nodeName=node.name))
    seen = node.applied("seen", "unseen")
    live = node.of.core.read_namespaced_pod("unseen", node.name)
    assert not [volume for volume in live.spec.volumes or [] if volume.csi]
    # As if kubelet, or who calls its socket, asked for it all the same.
    context = {
        "csi.storage.k8s.io/pod.uid": live.metadata.uid,
        "csi.storage.k8s.io/pod.name": "unseen",
    }
    target = Path(str(seen.target).replace(seen.ref.uid, live.metadata.uid))
    target.parent.mkdir(parents=True)
    error = await node.refused(seen, volume_context=context, target_path=str(target))
    assert error.code == "PERMISSION_DENIED"
    assert "has no volume" in error.details
    await node.mounted(seen)
    await node.unpublish(seen)
