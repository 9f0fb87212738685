"""Descriptors that are handed over, or reached through /proc: the reader is judged, not the opener."""

from __future__ import annotations

import errno

import pytest

from agent.kernel.layout import Limit, Reason
from agent.model import From
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import FILE, VALUE, shown
from tests.kernel.harness.values import pattern

LONG = pattern(256 * 1024)
FIRST_OF_STEPS = Limit.CHUNK_BYTES - 1
"""What a descriptor can hold that was read in the first four chunks of a value."""
LATER = Limit.STEP_CHUNKS * Limit.CHUNK_BYTES


def test_a_descriptor_that_was_not_read_gives_another_pod_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    thief = any_node.pod().container()
    app = pod.container()
    fd = app.give(app.open(FILE), thief)
    found = thief.read_fd(fd)
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.POD: 1}
    assert app.read(FILE).data == VALUE


@pytest.mark.parametrize(
    ("size", "reads", "most"),
    [
        (1, 1, FIRST_OF_STEPS),
        (Limit.CHUNK_BYTES, 1, FIRST_OF_STEPS),
        (2000, 2, FIRST_OF_STEPS),
        (4096, 1, FIRST_OF_STEPS),
        (6112, 1, FIRST_OF_STEPS),
        (6113, 1, LATER),
        (8192, 1, LATER),
        (32768, 1, LATER),
        (1 << 20, 2, LATER),
    ],
)
def test_a_half_read_descriptor_gives_only_what_it_had_buffered(node: Node, size: int, reads: int, most: int) -> None:
    """The kernel hands leftovers out without asking; the first four chunks go out one by one to keep them small."""
    pod, volume = shown(node, From.APP, value=LONG)
    thief = node.pod().container()
    app = pod.container()
    mine = app.open(FILE)
    read = app.read_fd(mine, size, reads).data
    stolen = thief.read_fd(app.give(mine, thief))
    assert read + stolen.data == LONG[: len(read) + len(stolen.data)]
    assert stolen.errno == errno.E2BIG
    assert len(stolen.data) < most + 1
    assert volume.refusals() == {Reason.POD: 1}


def test_of_a_short_value_read_by_one_byte_a_thief_gets_less_than_a_chunk(node: Node) -> None:
    value = pattern(4 * Limit.CHUNK_BYTES)
    pod, _ = shown(node, From.APP, value=value)
    thief = node.pod().container()
    app = pod.container()
    for length in (0, 100, Limit.CHUNK_BYTES, 2 * Limit.CHUNK_BYTES + 5, len(value)):
        mine = app.open(FILE)
        read = app.read_fd(mine, length, 1).data if length else b""
        assert len(thief.read_fd(app.give(mine, thief)).data) <= FIRST_OF_STEPS
        assert read == value[:length]


def test_an_entered_shell_gets_nothing_from_a_descriptor_of_the_application(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    app = pod.container()
    shell = pod.exec(app)
    found = shell.read_fd(app.give(app.open(FILE), shell))
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.ENTERED: 1}


def test_a_descriptor_inherited_over_exec_is_judged_by_who_reads(node: Node) -> None:
    pod, volume = shown(node, From.MAIN)
    app = pod.container()
    child = app.spawn()
    fd = child.open(FILE)
    child("attempt", "set_inheritable", fd, True)
    found = child.execute().read_fd(fd)
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.NOT_MAIN: 1}


def test_proc_of_a_victim_gives_another_pod_and_the_node_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    app = pod.container()
    fd = app.open(FILE)
    thief = any_node.pod().container(host_pid=True, capabilities="all")
    host = any_node.process()
    for path in (f"/proc/{app.pid}/fd/{fd}", f"/proc/{app.pid}/root{FILE}"):
        for task in (thief, host):
            found = task.read(path)
            assert (found.data, found.errno) == (b"", errno.E2BIG), (task.label, path)
    assert volume.refusals() == {Reason.POD: 4}


def test_proc_of_a_victim_gives_an_entered_shell_nothing(any_node: Node) -> None:
    pod, volume = shown(any_node, From.APP)
    app = pod.container()
    fd = app.open(FILE)
    shell = pod.exec(app)
    for path in (f"/proc/{app.inner_pid}/fd/{fd}", f"/proc/{app.inner_pid}/root{FILE}", f"/proc/self/root{FILE}"):
        found = shell.read(path)
        assert (found.data, found.errno) == (b"", errno.E2BIG), path
    assert volume.refusals() == {Reason.ENTERED: 3}
