"""The whole agent, when what let a running pod have its volume is taken away: by policy kept or refused, and back."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from tests.agent.harness import Node, until
from tests.agent.pods import Program
from tests.agent.tree import Pod, files_of

SECRET = "payments/db"
ENGINES = pytest.mark.parametrize("engine", ["iter", "tmpfs"])


def value(tag: str) -> dict[str, bytes]:
    return {"password": f"{tag}:".encode() + b"x" * 4000 + b":end"}


def interceptor(node: Node, name: str, policy: str, **spec: Any) -> None:
    access = {"from": "any", "unenforced": "allow"}
    whole = {"access": access, "delivery": {"onUnavailable": policy}} | spec
    node.interceptor(name, [files_of(SECRET, "password")], **whole)


async def served(node: Node, policy: str, engine: str, name: str = "web") -> tuple[Pod, Program]:
    """A pod with a volume, and a program in it."""
    interceptor(node, name, policy)
    pod = node.pod(name, name)
    await node.publish(pod)
    return pod, node.program(pod)


async def begun(node: Node, engine: str) -> None:
    node.secret(SECRET, value("1"))
    await node.started(engine=engine)


async def meets(program: Program, pod: Pod, wanted: bytes | int) -> None:
    await until(lambda: program.read(pod.target / "password") == [wanted], f"the pod meets {wanted!r:.20}")


def refused_by(engine: str) -> int:
    return errno.E2BIG if engine == "iter" else errno.EACCES


async def ends(node: Node, count: int = 1) -> None:
    await until(lambda: len(node.audited("right-ended")) == count, "the end of a right is audited")


async def returns(node: Node, count: int = 1) -> None:
    await until(lambda: len(node.audited("right-returned")) == count, "the return of a right is audited")


@ENGINES
async def test_a_pod_whose_interceptor_goes_is_refused_and_served_again_when_it_returns(
    node: Node, engine: str
) -> None:
    await begun(node, engine)
    pod, program = await served(node, "refuse", engine)
    other, beside = await served(node, "refuse", engine, "other")
    node.no_interceptor("web")
    await meets(program, pod, refused_by(engine))
    await ends(node)
    (record,) = node.audited("right-ended")
    assert (record["pod"], record["policy"], record["field"]) == ("web", "refuse", "interceptor web")
    assert "interceptor web: was deleted" in node.conditions()["right-ended"]
    assert node.metric("kernelsecret_volumes_without_right", policy="refuse") == 1
    assert beside.read(other.target / "password") == [value("1")["password"]]
    node.secret(SECRET, value("2"))
    await meets(beside, other, value("2")["password"])
    assert program.read(pod.target / "password") == [refused_by(engine)]
    interceptor(node, "web", "refuse")
    await meets(program, pod, value("2")["password"])
    await returns(node)
    assert "right-ended" not in node.conditions()
    assert (pod.target / "password").stat().st_size == len(value("2")["password"])
    node.secret(SECRET, value("3"))
    await meets(program, pod, value("3")["password"])
    for one in (pod, other):
        await node.unpublish(one)
    node.assert_kept(*(value(tag)["password"] for tag in "123"))


@ENGINES
async def test_a_pod_that_keeps_sees_no_version_that_others_get_until_its_right_returns(
    node: Node, engine: str
) -> None:
    await begun(node, engine)
    pod, program = await served(node, "keep", engine)
    other, beside = await served(node, "keep", engine, "other")
    before = node.footprint()
    node.no_interceptor("web")
    await ends(node)
    node.secret(SECRET, value("2"))
    await meets(beside, other, value("2")["password"])
    assert program.read(pod.target / "password") == [value("1")["password"]]
    assert node.metric("kernelsecret_volumes_without_right", policy="keep") == 1
    interceptor(node, "web", "keep")
    await meets(program, pod, value("2")["password"])
    await returns(node)
    await node.settled(before)
    await node.unpublish(pod)


WITHDRAWN: dict[str, Callable[[Node, Pod], None]] = {
    "label": lambda node, pod: node.namespace("shop", inject="disabled"),
    "annotation": lambda node, pod: node.annotate(pod, "false"),
    "podSelector": lambda node, pod: interceptor(node, "web", "refuse", podSelector={"matchLabels": {"a": "b"}}),
    "access": lambda node, pod: interceptor(node, "web", "refuse", access={"from": "main", "unenforced": "allow"}),
    "secrets": lambda node, pod: node.interceptor("web", [files_of("payments/other", "password")]),
}
FIELDS = {
    "label": "namespace.metadata.labels[kernelsecret.io/inject]",
    "annotation": "metadata.annotations[kernelsecret.io/inject]",
    "podSelector": "interceptor web: spec.podSelector",
    "access": "interceptor web: spec.access",
    "secrets": "interceptor web: spec.secrets",
}


async def test_whatever_withdraws_the_right_is_named_and_may_be_taken_back(node: Node) -> None:
    await begun(node, "iter")
    pod, program = await served(node, "refuse", "iter")
    for number, (what, withdraw) in enumerate(WITHDRAWN.items(), start=1):
        withdraw(node, pod)
        await meets(program, pod, errno.E2BIG)
        await ends(node, number)
        assert node.audited("right-ended")[-1]["field"] == FIELDS[what]
        node.namespace("shop")
        node.annotate(pod, "true")
        interceptor(node, "web", "refuse")
        await meets(program, pod, value("1")["password"])
        await returns(node, number)


async def test_the_right_is_closed_under_a_reading_loop_and_the_kernel_says_why(node: Node) -> None:
    await begun(node, "iter")
    pod, _ = await served(node, "refuse", "iter")
    loop = node.reader(pod, "password")
    await until(lambda: node.metric("kernelsecret_reads_total", result="served") > 50, "the loop reads")
    node.no_interceptor("web")
    await until(lambda: any(one["rule"] == "ended" for one in node.audited("read")), "a refusal is audited")
    interceptor(node, "web", "refuse")
    await returns(node)
    seen = loop.finish()
    assert seen.faults
    assert all(fault.startswith(f"errno {errno.E2BIG} ") for fault in seen.faults)
    assert seen.versions == ["1"]
    assert node.metric("kernelsecret_refusals_total", rule="ended") > 0


@ENGINES
@pytest.mark.parametrize("policy", ["keep", "refuse"])
async def test_a_restarted_agent_goes_on_where_the_earlier_one_was(node: Node, engine: str, policy: str) -> None:
    await begun(node, engine)
    pod, program = await served(node, policy, engine)
    node.no_interceptor("web")
    await ends(node)
    after = refused_by(engine) if policy == "refuse" else value("1")["password"]
    assert program.read(pod.target / "password") == [after]
    node.kill()
    node.secret(SECRET, value("2"))
    away = node.base / "away"
    node.cluster.rename(away)
    await node.started(engine=engine)
    assert node.status()["adopted"] == 1
    assert "right-ended" in node.conditions()
    assert "cluster-unreadable" in node.conditions()
    assert program.read(pod.target / "password") == [after], "not known is not returned"
    away.rename(node.cluster)
    node.kill()
    interceptor(node, "web", policy)
    await node.started(engine=engine)
    await meets(program, pod, value("2")["password"])
    await returns(node)
    assert not {"right-ended", "cluster-unreadable"} & set(node.conditions())


async def test_a_right_that_ended_while_no_agent_ran_is_seen_at_the_start(node: Node) -> None:
    await begun(node, "iter")
    pod, program = await served(node, "refuse", "iter")
    kept, keeping = await served(node, "keep", "iter", "kept")
    node.kill()
    node.no_interceptor("web")
    node.no_interceptor("kept")
    node.secret(SECRET, value("2"))
    await node.started()
    assert program.read(pod.target / "password") == [errno.E2BIG]
    assert keeping.read(kept.target / "password") == [value("1")["password"]]


async def test_a_new_publish_is_refused_and_a_refresh_of_what_has_ended_is_not(node: Node) -> None:
    await begun(node, "iter")
    pod, program = await served(node, "refuse", "iter")
    late = node.pod("late", "web")
    node.no_interceptor("web")
    await ends(node)
    error = await node.refused(late)
    assert (error.code, "interceptor web" in error.details) == ("NOT_FOUND", True)
    await node.publish(pod)
    assert program.read(pod.target / "password") == [errno.E2BIG]


async def test_the_policy_is_the_one_that_the_interceptor_had_last(node: Node) -> None:
    await begun(node, "iter")
    pod, program = await served(node, "keep", "iter")
    interceptor(node, "web", "refuse")
    (state,) = (node.run / "state").glob("*.json")
    await until(lambda: '"on_unavailable":"refuse"' in state.read_text(), "the policy is taken over")
    node.no_interceptor("web")
    await meets(program, pod, errno.E2BIG)


async def test_a_volume_whose_right_has_ended_can_be_unpublished_and_leaves_nothing(node: Node) -> None:
    await begun(node, "iter")
    empty = node.footprint()
    for policy in ("keep", "refuse"):
        pod, _ = await served(node, policy, "iter", policy)
        node.no_interceptor(policy)
        await until(lambda: "right-ended" in node.conditions(), "the right has ended")
        await node.unpublish(pod)
        await node.settled(empty)
        assert "right-ended" not in node.conditions()


async def test_a_pod_that_is_being_deleted_reads_on(node: Node) -> None:
    await begun(node, "iter")
    pod, program = await served(node, "refuse", "iter")
    marker, marked = await served(node, "refuse", "iter", "marker")
    path = node.cluster / "pods/shop.web.yaml"
    path.write_text(
        path.read_text().replace('"metadata": {', '"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", ', 1)
    )
    node.no_interceptor("marker")
    await meets(marked, marker, errno.E2BIG)
    path.unlink()
    interceptor(node, "marker", "refuse")
    await meets(marked, marker, value("1")["password"])
    assert program.read(pod.target / "password") == [value("1")["password"]]
