"""Agent, webhook and API server away, each at its worst moment: what pods read meanwhile, and how it is made good."""

from __future__ import annotations

import time

from tests.agent.harness import until
from tests.agent.pods import Program
from tests.agent.tree import Pod
from tests.apiserver.harness.objects import OPTED_IN, interceptor, pod
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode

FIRST, SECOND, THIRD = b"first-value-canary", b"second-value-canary", b"third-value-canary"


async def running(node: WholeNode, name: str) -> tuple[Pod, Program]:
    """A pod that runs with its secret."""
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl.apply(interceptor(name, node.name))
    await node.joined()
    made = node.applied("web", name)
    await node.mounted(made)
    program = node.program(made)
    assert program.read(made.target / "password") == [FIRST]
    return made, program


async def reads(program: Program, wanted: Pod, value: bytes) -> None:
    await until(lambda: program.read(wanted.target / "password") == [value], f"the pod reads {value!r}")


def lost(node: WholeNode) -> float:
    """How many hand-overs found no agent that answered."""
    name = "kernelsecret_webhook_handovers_total"
    return sum(node.webhook.metric(name, outcome=outcome) for outcome in ("unreachable", "failed"))


async def test_pods_bound_while_no_agent_was_there_are_served_by_the_next_one_which_asks(node: WholeNode) -> None:
    """Their hand-over is lost. The label says what the node can do, so they are admitted and bound all the same."""
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl.apply(interceptor("lost", node.name))
    await node.joined()
    assert node.stop() == 0
    before = lost(node)
    bound = node.applied("bound", "lost")
    eventually(lambda: lost(node) > before, "the hand-over is lost", explain=node.said)
    node.kubectl.apply(pod("named", "lost", nodeName=node.name))
    named = node.kubelets("named")
    await node.started()
    assert node.held() == 0
    for one in (bound, named):
        for refusal in await node.mounted(one):
            assert refusal.code == "UNAVAILABLE", refusal
        assert node.program(one).read(one.target / "password") == [FIRST]
    assert node.asked() == 2
    assert node.stop() == 0


async def test_while_webhook_and_agent_are_away_pods_read_on_and_what_was_bound_before_comes_up_afterwards(
    node: WholeNode,
) -> None:
    web, program = await running(node, "nobody")
    assert node.stop() == 0
    late = node.applied("late", "nobody")
    node.stop_webhook()
    node.secret("shop/db", {"password": SECOND})
    assert program.read(web.target / "password") == [FIRST], "nobody is there to bring it"
    await node.started()
    assert node.status()["adopted"] == 1
    await reads(program, web, SECOND)
    await node.publish(web)
    refusal = await node.refused(late)
    assert refusal.code == "UNAVAILABLE"
    assert "webhook" in refusal.details or "certificate" in refusal.details, refusal
    await until(lambda: "not-identified" in node.conditions(), "it is told")
    # Whoever asks now waits; whoever does not is created as ever.
    assert "failed calling webhook" in node.kubectl.refused("create", "-f-", given=pod("more", "nobody"))
    node.kubectl.apply(pod("plain"))
    node.start_webhook()
    back = time.monotonic()
    refusals = await node.mounted(late)
    node.measured("webhook ready again to the waiting volume published", time.monotonic() - back)
    assert {one.code for one in refusals} <= {"UNAVAILABLE"}
    assert node.program(late).read(late.target / "password") == [SECOND]
    await until(lambda: "not-identified" not in node.conditions(), "it is told no more")
    for one in (web, late):
        await node.unpublish(one)


async def test_while_the_api_server_is_away_pods_read_on_and_rotate_and_new_ones_wait(node: WholeNode) -> None:
    web, program = await running(node, "unheard")
    late = node.applied("late", "unheard")
    with node.of.without_server():
        node.secret("shop/db", {"password": SECOND})
        await reads(program, web, SECOND)
        await node.publish(web)
        # The watches know it: what is held is believed until they are too old, and then nothing new is opened.
        await until(lambda: "cluster-unreadable" in node.conditions(), "it is told")
        refusal = await node.refused(late.second())
        assert refusal.code == "UNAVAILABLE", refusal
        assert "see whether the API server runs" in refusal.details, refusal
        # Nor does a restart change that.
        node.kill()
        await node.started()
        assert node.status()["adopted"] == 1
        node.secret("shop/db", {"password": THIRD})
        await reads(program, web, THIRD)
        await node.publish(web)
        refusal = await node.refused(late)
        assert refusal.code == "UNAVAILABLE", refusal
        assert "pod" in refusal.details
    # The webhook's watches are not back yet. Of what is new it knows neither namespace nor interceptor: it asks.
    fresh = node.of.namespace(f"{node.name}-fresh", OPTED_IN)
    node.of.kubectl.apply(interceptor("fresh", f"{node.name}-fresh"))
    fresh("create", "-f-", given=pod("web", "fresh", nodeSelector={"kubernetes.io/hostname": node.name}))
    back = time.monotonic()
    assert {one.code for one in await node.mounted(late)} <= {"UNAVAILABLE"}
    node.measured("API server back, and other pods made, to the waiting volume published", time.monotonic() - back)
    assert node.program(late).read(late.target / "password") == [THIRD]
    await until(lambda: "cluster-unreadable" not in node.conditions(), "it is told no more")
    for one in (web, late):
        await node.unpublish(one)


async def test_a_hand_over_that_meets_an_agent_that_hangs_keeps_no_pod_from_its_secret(node: WholeNode) -> None:
    web, program = await running(node, "hanging")
    came, before = node.asked() + node.held(), lost(node)
    node.pause()
    try:
        late = node.applied("late", "hanging")
        assert program.read(web.target / "password") == [FIRST]
        eventually(lambda: lost(node) > before, "the hand-over is lost", explain=node.said)
    finally:
        node.resume()
    await node.mounted(late)
    # Usually asked for; another pod's loss may have been counted, and then the last attempt found it awake again.
    assert node.asked() + node.held() >= came + 1
    for one in (web, late):
        await node.unpublish(one)
