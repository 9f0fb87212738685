"""Agent, webhook and API server away, each at its worst moment: what pods read meanwhile, and how it is made good."""

from __future__ import annotations

from tests.agent.harness import until
from tests.agent.pods import Program
from tests.agent.tree import Pod
from tests.apiserver.harness.objects import container, interceptor, pod
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


async def test_pods_bound_while_no_agent_was_there_are_served_by_the_next_one_which_asks(node: WholeNode) -> None:
    """Their hand-over is lost. The label says what the node can do, so they are admitted and bound all the same."""
    node.secret("shop/db", {"password": FIRST})
    node.of.kubectl.apply(interceptor("lost", node.name))
    await node.joined()
    assert node.stop() == 0
    lost = node.webhook.metric("kernelsecret_webhook_handovers_total", outcome="unreachable")
    bound = node.applied("bound", "lost")
    eventually(
        lambda: node.webhook.metric("kernelsecret_webhook_handovers_total", outcome="unreachable") > lost,
        "the hand-over is lost",
        explain=node.said,
    )
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
    refusals = await node.mounted(late)
    assert {one.code for one in refusals} <= {"UNAVAILABLE"}
    assert node.program(late).read(late.target / "password") == [SECOND]
    await until(lambda: "not-identified" not in node.conditions(), "it is told no more")
    for one in (web, late):
        await node.unpublish(one)


async def test_while_the_api_server_is_away_pods_read_on_and_rotate_and_new_ones_wait(node: WholeNode) -> None:
    web, program = await running(node, "unheard")
    late = node.applied("late", "unheard")
    node.of.server.process.kill()
    try:
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
    finally:
        node.of.server.start()
        node.of.server.wait_ready()
    assert {one.code for one in await node.mounted(late)} <= {"UNAVAILABLE"}
    assert node.program(late).read(late.target / "password") == [THIRD]
    await until(lambda: "cluster-unreadable" not in node.conditions(), "it is told no more")
    for one in (web, late):
        await node.unpublish(one)


async def test_a_hand_over_that_meets_an_agent_that_hangs_is_lost_and_asked_for(node: WholeNode) -> None:
    web, program = await running(node, "hanging")
    asked = node.asked()
    node.pause()
    try:
        late = node.applied("late", "hanging", containers=[container("app"), container("beside")])
        assert program.read(web.target / "password") == [FIRST]
        eventually(
            lambda: (
                node.webhook.metric("kernelsecret_webhook_handovers_total", outcome="unreachable")
                + node.webhook.metric("kernelsecret_webhook_handovers_total", outcome="failed")
                > 0
            ),
            "the hand-over is lost",
            explain=node.said,
        )
    finally:
        node.resume()
    await node.mounted(late)
    assert node.asked() + node.held() > asked
    for one in (web, late):
        await node.unpublish(one)
