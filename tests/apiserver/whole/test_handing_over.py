"""Registrations on their way to a real agent: how soon they come, and that they come while all keys change."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from tests.apiserver.harness.keys import authorities, keys_published, registration_keys, time_passes
from tests.apiserver.harness.objects import interceptor, pod
from tests.apiserver.harness.waiting import DEADLINE_S, POLL_S
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode
from webhook.handover.agents import BRIEF_REST_S
from webhook.handover.sender import WITHIN_S

VALUE = b"value-canary"
SAMPLES = 15


def bind(node: WholeNode, name: str) -> None:
    """As the scheduler does it."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node.name}
    body = {"metadata": {"name": name}, "target": target}
    node.of.core.create_namespaced_pod_binding(name, node.name, body, _preload_content=False)


async def test_a_registration_is_at_the_agent_soon_after_the_binding(node: WholeNode) -> None:
    node.secret("shop/db", {"password": VALUE})
    node.of.kubectl.apply(interceptor("soon", node.name))
    await node.joined()
    here = {"kubernetes.io/hostname": node.name}
    held, published = [], []
    for number in range(SAMPLES):
        name = f"soon-{number}"
        node.of.core.create_namespaced_pod(node.name, pod(name, "soon", schedulerName="nobody", nodeSelector=here))
        before = node.held()
        bind(node, name)
        bound = time.monotonic()
        while node.held() == before:
            assert time.monotonic() < bound + DEADLINE_S, node.said()
            await asyncio.sleep(0.001)
        held.append(time.monotonic() - bound)
        made = node.kubelets(name)
        asks = time.monotonic()
        await node.publish(made)
        published.append(time.monotonic() - asks)
        await node.unpublish(made)
    assert node.asked() == 0
    for what, times in (
        ("binding answered to registration held", held),
        ("NodePublishVolume of such a pod", published),
    ):
        node.measured(f"{what}, median of {SAMPLES}", statistics.median(times))
        node.measured(f"{what}, longest", max(times))


async def test_pods_come_up_all_the_time_while_authority_certificate_and_registration_key_change(
    node: WholeNode,
) -> None:
    """What takes months takes a minute here, so the agent's certificate changes later than it would."""
    node.secret("shop/db", {"password": VALUE})
    node.of.kubectl.apply(interceptor("keys", node.name))
    await node.joined()
    eventually(lambda: keys_published(node.of), "the keys are published", explain=node.said)
    first, first_keys = authorities(node.of), registration_keys(node.of)
    served = certificates(node)
    came: list[int] = []

    async def serve_until(done: Callable[[], bool], stage: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while True:
            is_last = done()
            made = node.applied(f"{stage}-{len(came)}", "keys")
            refusals = await node.mounted(made)
            assert {one.code for one in refusals} <= {"UNAVAILABLE"}, refusals
            came.append(len(refusals))
            assert node.program(made).read(made.target / "password") == [VALUE]
            await node.unpublish(made)
            node.of.remove_pod(node.name, made.ref.name)
            if is_last:
                return
            assert time.monotonic() < end, f"{stage}\n{node.said()}"

    time_passes(node.of, days=183)
    await serve_until(lambda: len(authorities(node.of)) == 2 and keys_published(node.of), "published")
    assert first_keys < registration_keys(node.of)
    await serve_until(lambda: renewals(node) >= 2, "renewed")
    time_passes(node.of, days=1, minutes=5)
    await serve_until(lambda: not served & certificates(node), "used")
    assert came == [0] * len(came), "nobody had to wait until here"
    time_passes(node.of, days=3)
    changed = lambda: not first & authorities(node.of) and not first_keys & registration_keys(node.of)  # noqa: E731
    await serve_until(changed, "alone")
    await serve_until(lambda: renewals(node) >= 3, "renewed-again")
    await handed_over_again(node)
    node.assert_kept(VALUE)


async def handed_over_again(node: WholeNode) -> None:
    """A pod that is bound just before the webhook finds the new certificate good is asked for; a later one is not."""
    end = time.monotonic() + DEADLINE_S
    number = 0
    while True:
        held, number = node.held(), number + 1
        last = node.applied(f"last-{number}", "keys")
        was_handed_over = grows(node.held, held, WITHIN_S + BRIEF_REST_S)
        await node.mounted(last)
        await node.unpublish(last)
        node.of.remove_pod(node.name, last.ref.name)
        if was_handed_over:
            return
        assert time.monotonic() < end, node.said()


def grows(number: Callable[[], float], above: float, for_s: float) -> bool:
    """Whether it becomes more within that time."""
    end = time.monotonic() + for_s
    while not (more := number() > above) and time.monotonic() < end:
        time.sleep(POLL_S)
    return more


def renewals(node: WholeNode) -> int:
    return len(node.logged("node certificate renewed"))


def certificates(node: WholeNode) -> set[float]:
    """When the certificates end that the replicas serve."""
    name = "kernelsecret_webhook_certificate_expiry_timestamp_seconds"
    return {replica.metric(name) for replica in node.webhook.replicas.values()}
