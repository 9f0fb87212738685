"""What lets a running pod have its secret is taken away by kubectl: what it reads then, and what kubectl shows."""

from __future__ import annotations

import errno
import json
import time
from typing import Any

import pytest

from kernelsecret.names import FINALIZER_IN_USE, LABEL_INJECT
from tests.agent.harness import until
from tests.agent.pods import Program
from tests.agent.tree import Pod
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.waiting import until as eventually
from tests.apiserver.harness.whole import WholeNode

FIRST, SECOND, THIRD = b"first-value-canary", b"second-value-canary", b"third-value-canary"


async def started(node: WholeNode, name: str, policy: str) -> tuple[Pod, Program, Pod, Program]:
    """A pod that is to lose its right, and one beside it with an interceptor of its own; both read."""
    node.secret("shop/db", {"password": FIRST})
    for each in (name, f"{name}-beside"):
        node.of.kubectl.apply(interceptor(each, node.name, delivery={"onUnavailable": policy}))
    await node.joined()
    pods = [node.applied(each, each) for each in (name, f"{name}-beside")]
    for one in pods:
        await node.mounted(one)
    web, beside = pods
    programs = [node.program(one) for one in pods]
    for one, program in zip(pods, programs, strict=True):
        assert program.read(one.target / "password") == [FIRST]
    return web, programs[0], beside, programs[1]


async def reads(program: Program, wanted: Pod, value: bytes | int) -> None:
    await until(lambda: program.read(wanted.target / "password") == [value], f"the pod meets {value!r}")


def withdraw(node: WholeNode, name: str, how: str) -> None:
    if how == "namespace label":
        node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}-")
    elif how == "selector":
        patch_selector(node, name, "other")
    else:
        node.of.kubectl("delete", f"si/{name}", "--wait=false")


def patch_selector(node: WholeNode, name: str, app: str | None) -> None:
    selector = {"matchLabels": {"app": app}} if app else None
    patch = json.dumps({"spec": {"podSelector": selector}})
    node.of.kubectl("patch", f"si/{name}", "--type=merge", f"--patch={patch}")


def give_back(node: WholeNode, name: str, how: str) -> None:
    if how == "namespace label":
        node.of.kubectl("label", f"namespace/{node.name}", f"{LABEL_INJECT}=enabled")
    elif how == "selector":
        patch_selector(node, name, None)


def condition(node: WholeNode, name: str, kind: str) -> dict[str, Any]:
    found = node.of.kubectl.get("si", name).get("status", {}).get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def shown(node: WholeNode, name: str, kind: str, reason: str) -> str:
    """Wait until a condition has this reason; its message."""
    eventually(
        lambda: condition(node, name, kind).get("reason") == reason,
        f"{kind} of {name} is {reason}",
        explain=lambda: str(node.of.kubectl("get", "si", name, "-oyaml")) + node.said(),
    )
    return str(condition(node, name, kind)["message"])


@pytest.mark.parametrize("how", ["namespace label", "selector"])
async def test_with_refuse_reads_are_refused_until_the_right_is_given_back(node: WholeNode, how: str) -> None:
    name = f"refuse-{how.split()[-1]}"
    web, program, beside, other = await started(node, name, "refuse")
    withdraw(node, name, how)
    after = time.monotonic()
    await reads(program, web, errno.E2BIG)
    node.measured(f"from kubectl's end to the first refused read ({how})", time.monotonic() - after)
    assert "1 running pod is no longer given it" in shown(node, name, "PodsUnselected", "RefusesReads")
    assert shown(node, name, "InUse", "PodsHoldIt")
    assert node.audited("right-ended")[0]["policy"] == "refuse"
    node.secret("shop/db", {"password": SECOND})
    if how == "selector":
        await reads(other, beside, SECOND)
    assert program.read(web.target / "password") == [errno.E2BIG]
    give_back(node, name, how)
    await reads(program, web, SECOND)
    shown(node, name, "PodsUnselected", "AllGiven")
    for one in (web, beside):
        await node.unpublish(one)


@pytest.mark.parametrize("how", ["namespace label", "selector"])
async def test_with_keep_the_last_value_stays_while_others_rotate_on(node: WholeNode, how: str) -> None:
    name = f"keep-{how.split()[-1]}"
    web, program, beside, other = await started(node, name, "keep")
    withdraw(node, name, how)
    await until(lambda: web.ref.uid in {one["pod_uid"] for one in node.audited("right-ended")}, "the right has ended")
    assert "1 running pod is no longer given it" in shown(node, name, "PodsUnselected", "KeepsLastValue")
    node.secret("shop/db", {"password": SECOND})
    if how == "selector":
        await reads(other, beside, SECOND)
    assert program.read(web.target / "password") == [FIRST]
    give_back(node, name, how)
    await reads(program, web, SECOND)
    shown(node, name, "PodsUnselected", "AllGiven")
    for one in (web, beside):
        await node.unpublish(one)


@pytest.mark.parametrize(("policy", "reason"), [("refuse", "RefusesReads"), ("keep", "KeepsLastValue")])
async def test_a_deleted_interceptor_is_in_sight_until_its_last_pod_has_gone(
    node: WholeNode, policy: str, reason: str
) -> None:
    name = f"deleted-{policy}"
    web, program, beside, other = await started(node, name, policy)
    assert shown(node, name, "InUse", "PodsHoldIt")
    assert FINALIZER_IN_USE in node.of.kubectl.get("si", name)["metadata"]["finalizers"]
    withdraw(node, name, "deletion")
    after = time.monotonic()
    if policy == "refuse":
        await reads(program, web, errno.E2BIG)
        node.measured("from kubectl's end to the first refused read (deletion)", time.monotonic() - after)
    await until(lambda: bool(node.audited("right-ended")), "the right has ended")
    assert "deletionTimestamp" in node.audited("right-ended")[0]["field"]
    shown(node, name, "PodsUnselected", reason)
    node.secret("shop/db", {"password": SECOND})
    await reads(other, beside, SECOND)
    assert program.read(web.target / "password") == [errno.E2BIG if policy == "refuse" else FIRST]
    await node.unpublish(web)
    node.of.remove_pod(node.name, name)
    eventually(lambda: node.of.kubectl.run("get", "si", name).status != 0, "it is gone", explain=node.said)
    assert other.read(beside.target / "password") == [SECOND]
    await node.unpublish(beside)


async def test_an_interceptor_that_is_made_again_gives_the_right_back(node: WholeNode) -> None:
    """Also one that went while nobody held it back, as when the webhook did not run."""
    web, program, beside, _ = await started(node, "again", "refuse")
    patch = json.dumps({"metadata": {"finalizers": None}})
    shown(node, "again", "InUse", "PodsHoldIt")  # which comes after the finalizer
    node.of.kubectl("delete", "si/again", "--wait=false")
    node.of.kubectl("patch", "si/again", "--type=merge", f"--patch={patch}")
    await reads(program, web, errno.E2BIG)
    node.secret("shop/db", {"password": SECOND})
    node.of.kubectl.apply(interceptor("again", node.name, delivery={"onUnavailable": "refuse"}))
    await reads(program, web, SECOND)
    for one in (web, beside):
        await node.unpublish(one)


async def test_a_right_that_ends_while_webhook_and_agent_are_away_is_closed_by_the_next_agent(node: WholeNode) -> None:
    web, program, beside, _ = await started(node, "unwatched", "refuse")
    node.stop_webhook()
    node.kill()
    withdraw(node, "unwatched", "namespace label")
    assert program.read(web.target / "password") == [FIRST], "nobody has told the kernel"
    await node.started()
    await reads(program, web, errno.E2BIG)
    give_back(node, "unwatched", "namespace label")
    await reads(program, web, FIRST)
    for one in (web, beside):
        await node.unpublish(one)
