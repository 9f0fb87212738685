"""What tests of the access rule share: a pod with one secret, and whether a task gets it."""

from __future__ import annotations

import errno

from agent.model import AccessRule, Action, From
from tests.kernel.harness.family import Actor
from tests.kernel.harness.node import Node, Volume
from tests.kernel.harness.pods import Pod

FILE = "/secrets/password"
VALUE = b"hunter2"
CAT = "/usr/bin/cat"


def shown(
    node: Node, from_: From, *binaries: str, action: Action = Action.DENY, value: bytes = VALUE
) -> tuple[Pod, Volume]:
    """A pod with a volume of one secret under this rule, and the volume."""
    pod = node.pod()
    return pod, node.publish(pod, {"db": {"password": value}}, AccessRule(from_, binaries, action))


def served(actor: Actor, path: str = FILE) -> bool:
    """Whether the actor gets the secret; it gets all of it, or nothing and E2BIG."""
    found = actor.read(path)
    assert (found.data, found.errno) in ((VALUE, 0), (b"", errno.E2BIG))
    return found.errno == 0


def cats(actor: Actor, path: str = FILE) -> bool:
    """Whether `cat`, executed by a child of the actor, gets the secret."""
    code, out, _ = actor.run(CAT, path)
    assert (code, out) in ((0, VALUE), (1, b""))
    return code == 0
