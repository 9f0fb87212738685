"""What a refused reader meets: an error, its end, or only a record."""

from __future__ import annotations

from agent.kernel.layout import EventType, Reason
from agent.model import Action, From
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import CAT, FILE, served, shown


def test_kill_ends_the_reader_and_gives_it_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP, action=Action.KILL)
    app = pod.container()
    shell = pod.exec(app)
    shell.begin("read", FILE)
    assert shell.is_gone()
    assert pod.exec_program(app, CAT, FILE)[1] == b""
    assert served(app)
    assert volume.refusals() == {Reason.ENTERED: 2}


def test_kill_never_ends_who_is_not_of_the_pod(any_node: Node) -> None:
    """A node's backup or a neighbour is refused, not killed."""
    _, volume = shown(any_node, From.APP, action=Action.KILL)
    host = any_node.process()
    assert not served(host, str(volume.target / "password"))
    assert host("attempt", "getpid") > 0


def test_audit_serves_and_tells(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP, action=Action.AUDIT)
    shell = pod.exec(pod.container())
    assert served(shell)
    told = any_node.events(EventType.AUDITED)
    assert [(event.reason, event.tgid) for event in told] == [(Reason.ENTERED, shell.pid)]
    assert (volume.refusals(), volume.grant.audited) == ({}, 1)


def test_audit_does_not_serve_other_pods(any_node: Node) -> None:
    _, volume = shown(any_node, From.APP, action=Action.AUDIT)
    assert not served(any_node.process(), str(volume.target / "password"))
