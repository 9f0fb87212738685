"""A Secret of Kubernetes through the whole product, read by the pod's own right, with the token that kubelet brings."""

from __future__ import annotations

import pytest

from agent.csi.tokens import TOKENS_KEY
from tests.agent.harness import until
from tests.agent.tokens import brought
from tests.agent.tree import Pod
from tests.apiserver.harness.objects import interceptor, pod
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode

FIRST, SECOND = "first-value-canary-k8s", "second-value-canary-k8s"


def secret(name: str, value: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"password": value}}


async def shown(node: WholeNode, name: str) -> Pod:
    """A pod on the node whose interceptor shows the Secret `db` of its namespace."""
    files = [{"path": "password", "key": "password"}]
    shows = [{"name": "db", "source": {"kubernetes": {"name": "db"}}, "files": files}]
    node.of.kubectl.apply(interceptor(f"k8s-{node.name}", node.name, secrets=shows, access={"from": "any"}))
    node.kubectl.apply(secret("db", FIRST))
    return node.applied(name, "true")


def tokens(node: WholeNode, name: str) -> dict[str, str]:
    """As kubelet writes them into the call."""
    token = node.of.token(node.name, "default", pod=name)
    return {TOKENS_KEY: brought({"": token})}


@pytest.fixture
def may_read(node: WholeNode) -> None:
    """The pods' account may read the Secret."""
    node.kubectl("create", "role", "reads-db", "--verb=get,watch", "--resource=secrets", "--resource-name=db")
    node.kubectl("create", "rolebinding", "reads-db", "--role=reads-db", f"--serviceaccount={node.name}:default")


@pytest.mark.usefixtures("may_read")
async def test_a_pod_reads_a_secret_by_its_own_right_and_sees_it_change(node: WholeNode) -> None:
    await node.joined()
    web = await shown(node, "web")
    eventually(node.held, "the registration is handed over", explain=node.said)
    await node.publish(web, volume_context=tokens(node, "web"))
    assert node.program(web).read(web.target / "password") == [FIRST.encode()]
    node.kubectl.apply(secret("db", SECOND))
    await node.shows(web, "password", SECOND.encode())
    [served] = node.status()["secrets"]
    assert (served["source"], served["reader"], served["problem"]) == ("kubernetes", f"{node.name}/default", "")
    node.kubectl("delete", "rolebinding", "reads-db")
    node.kubectl.apply(secret("db", "a third value"))
    await until(lambda: bool(node.status()["secrets"][0]["problem"]), "that it may not be read is told")
    assert node.program(web).read(web.target / "password") == [SECOND.encode()]
    eventually(lambda: "SecretSourceDown" in node.of.events(node.name), "the pod's events say so", explain=node.said)
    await node.unpublish(web)
    node.assert_kept(FIRST.encode(), SECOND.encode())


async def test_without_the_right_and_with_another_pods_token_nothing_is_read(node: WholeNode) -> None:
    await node.joined()
    web = await shown(node, "web")
    node.kubectl.apply(pod("other", "false"))
    eventually(node.held, "the registration is handed over", explain=node.said)
    error = await node.refused(web, volume_context=tokens(node, "web"))
    assert error.code == "PERMISSION_DENIED", error
    assert "secrets" in error.details
    error = await node.refused(web, volume_context=tokens(node, "other"))
    assert error.code == "PERMISSION_DENIED", error
    assert "serviceAccount.tokens[''].pod.name" in error.details
    token = node.of.token(node.name, "default", pod="web")
    forged = token.rpartition(".")[0] + ".c2lnbmVk"
    error = await node.refused(web, volume_context={TOKENS_KEY: brought({"": forged})})
    assert "does not accept the token" in error.details
    node.assert_kept(token.encode(), forged.encode(), FIRST.encode())
