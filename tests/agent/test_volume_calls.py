"""Kubelet's calls in every order, against the real agent."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from agent.csi.client import CallError, KubeletClient, publish_message
from tests.agent.harness import AGENT, DEADLINE_S, Node
from tests.agent.tokens import brought, token
from tests.agent.tree import Pod, files_of

ONE = {"username": b"alice", "tls.crt": b"certificate-1"}


@pytest.fixture
def pod(node: Node) -> Pod:
    node.secret("payments/db", ONE)
    node.interceptor("payments", [files_of("payments/db", *ONE)])
    return node.pod("web", "payments")


async def test_kubelet_registers_the_driver_over_its_socket(node: Node) -> None:
    await node.started()
    async with KubeletClient(node.kubelet / "plugins_registry/csi.kernelsecret.io-reg.sock") as kubelet:
        info = await kubelet.register()
    assert (info.name, info.endpoint) == ("csi.kernelsecret.io", str(node.csi_socket))


async def test_a_pod_reads_what_was_published_and_nobody_else_does(node: Node, pod: Pod) -> None:
    other = node.pod("other", "payments")
    await node.started()
    await node.publish(pod)
    paths = [pod.target / name for name in ONE]
    assert node.program(pod).read(*paths) == list(ONE.values())
    assert all(isinstance(one, int) for one in node.program(other).read(*paths))
    assert [os.stat(path).st_size for path in paths] == [len(value) for value in ONE.values()]
    await node.unpublish(pod)
    assert not pod.target.exists()


async def test_publishing_twice_is_a_refresh_and_so_is_a_fresh_token(node: Node, pod: Pod) -> None:
    await node.started()
    await node.publish(pod)
    before = node.footprint()
    await node.publish(pod)
    for number in range(2):
        tokens = brought({"vault": token(pod.ref, "vault", mark=str(number))})
        message = publish_message(pod.volume_id, pod.target, pod.ref, pod.interceptor, tokens_json=tokens)
        async with KubeletClient(node.csi_socket) as kubelet:
            await kubelet.publish(message)
    assert node.footprint() == before
    assert node.program(pod).read(pod.target / "username") == [ONE["username"]]


async def test_unpublishing_twice_and_what_was_never_published_is_no_error(node: Node, pod: Pod) -> None:
    await node.started()
    before = node.footprint()
    await node.publish(pod)
    await node.unpublish(pod)
    await node.unpublish(pod)
    await node.unpublish(node.pod("never", "payments"))
    await node.settled(before)


async def test_an_expired_registration_publishes_nothing(node: Node) -> None:
    node.secret("payments/db", ONE)
    node.interceptor("payments", [files_of("payments/db", *ONE)])
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    late = node.pod("late", "payments", expiresAt=past)
    await node.started()
    assert "registration.expiresAt" in str(await node.refused(late))


async def test_a_target_holds_one_volume(node: Node, pod: Pod) -> None:
    await node.started()
    await node.publish(pod)
    error = await node.refused(pod, volume_id=f"csi-{uuid.uuid4().hex}")
    assert (error.code, error.details.partition(":")[0]) == ("ALREADY_EXISTS", "target_path")


async def test_an_agent_that_is_told_to_stop_leaves_the_secrets_served(node: Node, pod: Pod) -> None:
    await node.started()
    await node.publish(pod)
    program = node.program(pod)
    assert node.stop() == 0
    assert program.read(pod.target / "username") == [ONE["username"]]
    with pytest.raises(CallError):
        await node.publish(pod)
    await node.started()
    assert node.status()["adopted"] == 1
    await node.unpublish(pod)


def test_only_one_agent_has_the_node(running: Node) -> None:
    command = [sys.executable, "-c", AGENT]
    second = subprocess.run(command, env=running.env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode != 0
    assert "held by another agent" in second.stderr
    assert running.is_ready()
