"""What a real agent says of its secrets, as a user sees it at the interceptor with kubectl."""

from __future__ import annotations

from typing import Any

import pytest

from agent.csi.client import CallError
from tests.apiserver.harness.objects import interceptor
from tests.apiserver.harness.waiting import until
from tests.apiserver.harness.whole import WholeNode


def shown(node: WholeNode, name: str, reason: str) -> dict[str, Any]:
    """Wait until SecretsCurrent has this reason; what is said of the only secret, and the condition's `words`."""

    def looked() -> dict[str, Any] | None:
        status = node.of.kubectl.get(f"si/{name}").get("status", {})
        current: dict[str, Any] = next(
            (one for one in status.get("conditions", ()) if one["type"] == "SecretsCurrent"), {}
        )
        if current.get("reason") != reason or not status.get("secrets"):
            return None
        [secret] = status["secrets"]
        return {**secret, "words": current["message"]}

    return until(looked, f"{name} is {reason}", explain=node.said) or {}


async def test_a_secret_that_cannot_be_published_shows_at_the_interceptor_and_then_who_has_read_it(
    node: WholeNode,
) -> None:
    name = "who-read"
    node.secret("shop/other", {"password": b"canary-of-another"})
    node.of.kubectl.apply(interceptor(name, node.name))
    await node.joined()
    pod = node.applied(name, name)
    with pytest.raises(CallError):
        await node.publish(pod)
    found = shown(node, name, "SourceFailing")
    assert (found["pods"], found["failing"]) == (1, 1)
    assert "shop/db" in found["words"]
    assert node.name in found["message"]
    node.secret("shop/db", {"password": b"first-value-canary"})
    await node.mounted(pod)
    program = node.program(pod)
    assert program.read(pod.target / "password") == [b"first-value-canary"]
    found = shown(node, name, "AllCurrent")
    assert (found["upToDate"], found["failing"]) == (1, 0)
    node.secret("shop/db", {"password": b"second-value-canary"})
    found = shown(node, name, "ReadersBehind")
    assert found["behind"] == 1
    assert program.read(pod.target / "password") == [b"second-value-canary"]
    shown(node, name, "AllCurrent")
    assert "canary" not in str(node.of.kubectl.get(f"si/{name}"))
