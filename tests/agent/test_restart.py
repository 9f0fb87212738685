"""A killed agent's successor: volumes keep their own values, whatever came and went before."""

from __future__ import annotations

import errno

import msgspec

from agent.delivery import mounts
from agent.settings import Settings
from agent.upkeep import clean
from tests.agent.harness import Node
from tests.agent.tree import Pod, files_of

KEYS = ("one", "two", "three", "four")


def values(tag: str) -> dict[str, bytes]:
    return {key: f"{key}-{tag}".encode() for key in KEYS}


def showing(node: Node, key: str) -> Pod:
    """A pod that shows one key of the secret that they all share."""
    node.interceptor(key, [files_of("payments/db", key)])
    return node.pod(key, key)


def read(node: Node, pod: Pod) -> bytes | int:
    return node.program(pod).read(pod.target / pod.ref.name)[0]


async def test_a_volume_after_a_restart_never_gets_another_ones_value(node: Node) -> None:
    """Regression: numbers of keys were counted, and a gap in them made two keys share one."""
    node.secret("payments/db", values("1"))
    await node.started()
    one, two, three = (showing(node, key) for key in KEYS[:3])
    for pod in (one, two, three):
        await node.publish(pod)
    await node.unpublish(two)
    node.kill()
    await node.started()
    four = showing(node, "four")
    await node.publish(four)
    assert [read(node, pod) for pod in (one, three, four)] == [b"one-1", b"three-1", b"four-1"]
    node.secret("payments/db", values("2"))
    await node.shows(three, "three", b"three-2")
    assert [read(node, pod) for pod in (one, three, four)] == [b"one-2", b"three-2", b"four-2"]


async def test_a_key_that_nobody_shows_any_more_may_leave_the_source(node: Node) -> None:
    """Regression: it kept the others of its secret from rotating for ever."""
    node.secret("payments/db", values("1"))
    await node.started()
    one, two = (showing(node, key) for key in KEYS[:2])
    await node.publish(one)
    before = node.footprint()
    await node.publish(two)
    await node.unpublish(two)
    await node.settled(before)
    node.secret("payments/db", {"one": b"one-2"})
    await node.shows(one, "one", b"one-2")
    assert "rotation-failed" not in node.conditions()


async def test_an_agent_that_was_away_shows_what_changed_meanwhile(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    one = showing(node, "one")
    await node.publish(one)
    node.kill()
    assert read(node, one) == b"one-1"
    node.secret("payments/db", {key: value * 1000 for key, value in values("2").items()})
    await node.started()
    assert read(node, one) == b"one-2" * 1000
    assert (one.target / "one").stat().st_size == 5000


async def test_a_volume_whose_mount_is_gone_is_ended_and_can_be_published_again(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    empty = node.footprint()
    one = showing(node, "one")
    await node.publish(one)
    node.kill()
    mounts.unmount(one.target)
    await node.started()
    assert node.status()["adopted"] == 0
    assert "kubelet publishes it again" in node.conditions()["adoption-incomplete"]
    await node.settled(empty)
    await node.publish(one)
    assert "adoption-incomplete" not in node.conditions()
    assert read(node, one) == b"one-1"


async def test_a_state_file_that_cannot_be_read_stops_the_agent_with_words_and_touches_nothing(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    one = showing(node, "one")
    await node.publish(one)
    node.kill()
    (state,) = (node.run / "state").glob("*.json")
    kept = state.read_bytes()
    state.write_bytes(b"{")
    node.start()
    assert node.ended() != 0
    (failed,) = node.logged("agent failed")
    assert failed["field"] == f"state file {state.name}"
    assert "--clean" in failed["fix"]
    assert read(node, one) == b"one-1"
    state.write_bytes(kept)
    await node.started()
    assert node.status()["adopted"] == 1


async def test_clean_needs_no_state_files_to_take_everything_away(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    one = showing(node, "one")
    await node.publish(one)
    node.kill()
    for state in (node.run / "state").glob("*.json"):
        state.write_bytes(b"{")
    assert clean(Settings.load(node.env)) == 1
    assert node.mounts() == []
    assert not one.target.exists()


async def test_the_state_files_say_nothing_of_a_value(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    one = showing(node, "one")
    await node.publish(one)
    for path in (node.run / "state").iterdir():
        msgspec.json.decode(path.read_bytes())
        assert path.stat().st_mode & 0o777 == 0o600
    node.assert_kept(*values("1").values())


async def test_a_pod_that_ended_while_the_agent_was_away_leaves_nothing(node: Node) -> None:
    node.secret("payments/db", values("1"))
    await node.started()
    empty = node.footprint()
    one = showing(node, "one")
    await node.publish(one)
    node.kill()
    await node.started()
    await node.unpublish(one)
    await node.settled(empty)
    assert read(node, one) == errno.ENOENT
