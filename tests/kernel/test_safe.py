"""The agent's safe in the kernel: whole through any crash, wiped when it is replaced, and in nobody's sight."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.delivery import mounts
from agent.kernel import calls
from agent.kernel.safe import FORMAT, MAP_NAME, KernelSafe, wipe_all
from agent.model import From
from agent.node_kernel import BPFFS, SAFE, open_safe, remove
from agent.safe import MOST_BLOB_BYTES, MemorySafe
from kernelsecret.errors import Code, Refused
from tests.kernel.conftest import Guard
from tests.kernel.harness import eyes
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import shown
from tests.unit.safe.contract import SafeContract


@pytest.fixture
def run_dir(tmp_path: Path, guard: Guard) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    guard.made |= eyes.pinned_below(folder)
    remove(folder, [])


@pytest.fixture
def safe(run_dir: Path) -> KernelSafe:
    return opened(run_dir)


def opened(run_dir: Path) -> KernelSafe:
    """As an agent that starts."""
    found = open_safe(run_dir)
    assert isinstance(found, KernelSafe)
    return found


def pins(run_dir: Path) -> list[Path]:
    return sorted((run_dir / BPFFS / SAFE).iterdir())


def contents(fd: int) -> bytearray:
    """What a map of the safe holds."""
    return calls.read_element(fd, calls.element_size(fd, MAP_NAME))


class TestKernelSafe(SafeContract):
    pass


def test_what_was_put_outlives_the_agent(safe: KernelSafe, run_dir: Path) -> None:
    assert safe.outlives_agent
    blobs = {"vault-token:payments": b"token", "vault-lease:db": b"", "large": os.urandom(MOST_BLOB_BYTES)}
    for name, blob in blobs.items():
        safe.put(name, b"earlier")
        safe.put(name, blob)
    later = opened(run_dir)
    assert {name: later.get(name) for name in later.names()} == blobs
    assert len(pins(run_dir)) == len(blobs)
    later.put("large", b"small now")
    later.drop("vault-lease:db")
    last = opened(run_dir)
    assert {name: last.get(name) for name in last.names()} == {"vault-token:payments": b"token", "large": b"small now"}


@pytest.mark.parametrize("change", ["put", "drop"])
def test_what_is_replaced_or_dropped_is_overwritten_where_it_was(safe: KernelSafe, run_dir: Path, change: str) -> None:
    secret = b"hunter2" * 9000
    safe.put("token", secret)
    (pin,) = pins(run_dir)
    held = calls.get(str(pin))
    try:
        assert secret in contents(held)
        if change == "put":
            safe.put("token", b"later")
        else:
            safe.drop("token")
        assert not any(contents(held))
        assert not pin.exists()
    finally:
        os.close(held)


def test_a_node_that_is_cleaned_keeps_nothing(safe: KernelSafe, run_dir: Path) -> None:
    safe.put("token", b"hunter2")
    (pin,) = pins(run_dir)
    held = calls.get(str(pin))
    try:
        made = eyes.id_of(held)
        remove(run_dir, [])
        assert not any(contents(held))
    finally:
        os.close(held)
    assert mounts.mounts_below(run_dir, mounts.read_mounts()) == []
    assert made[0] == "map"


# Crashes: a child dies at every call that it makes, and an agent that starts finds the old blob or the new one


def dies_at(number: int, work: Callable[[], None]) -> bool:
    """Do it in a child that is killed right after its call of this number; whether it came so far."""
    child = os.fork()
    if not child:
        left = number

        def count(call: str, error: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        calls.count_with(count)
        work()
        os._exit(0)
    return bool(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def put_new(safe: KernelSafe) -> None:
    safe.put("token", b"new" * 1000)


def start_again(run_dir: Path) -> None:
    opened(run_dir)


def drop(safe: KernelSafe) -> None:
    safe.drop("token")


@pytest.mark.parametrize(("change", "after"), [(put_new, b"new" * 1000), (drop, None)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_crash_at_any_step_leaves_the_old_blob_or_the_new_one(
    run_dir: Path, change: Callable[[KernelSafe], None], after: bytes | None, before: bytes | None
) -> None:
    seen, number, died = [], 0, True
    while died:
        safe = opened(run_dir)
        safe.put("beside", b"kept")
        if before is None:
            safe.drop("token")
        else:
            safe.put("token", before)
        died = dies_at(number, lambda safe=safe: change(safe))  # type: ignore[misc]
        number += 1
        later = opened(run_dir)
        seen.append(later.get("token"))
        assert later.get("beside") == b"kept"
        assert later.names() == sorted(["beside", *(["token"] if seen[-1] is not None else [])])
        assert len(pins(run_dir)) == len(later.names()), "what does not count is swept"
    assert set(seen) <= {before, after}
    assert seen == sorted(seen, key=lambda blob: blob == after), "once it is there it stays"
    assert seen[-1] == after
    assert number > 3 or before is after is None


def test_a_crash_while_an_agent_sweeps_loses_nothing_and_brings_nothing_back(run_dir: Path) -> None:
    safe = opened(run_dir)
    number, died = 0, True
    while died:
        safe.put("token", b"old")
        earlier = pins(run_dir)
        calls_until_pinned = 3  # the map, its content, its pin
        assert dies_at(calls_until_pinned - 1, lambda safe=safe: put_new(safe))  # type: ignore[misc]
        assert len(pins(run_dir)) == len(earlier) + 1
        died = dies_at(number, lambda: start_again(run_dir))
        number += 1
        safe = opened(run_dir)
        assert safe.get("token") == b"new" * 1000
        assert len(pins(run_dir)) == 1
    assert number > 5


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "drop", "restart"]), st.sampled_from("abc"), st.binary(max_size=200)), max_size=30
)


def test_any_sequence_gives_what_a_dictionary_gives(run_dir: Path) -> None:
    @settings(max_examples=60, deadline=None)
    @given(STEPS)
    def check(steps: list[tuple[str, str, bytes]]) -> None:
        safe, model = opened(run_dir), {}
        for name in safe.names():
            safe.drop(name)
        for what, name, blob in steps:
            if what == "put":
                safe.put(name, blob)
                model[name] = blob
            elif what == "drop":
                safe.drop(name)
                model.pop(name, None)
            else:
                safe = opened(run_dir)
            assert {name: safe.get(name) for name in safe.names()} == model
        assert len(pins(run_dir)) == len(model)

    check()


# What is not ours, or not of this time


def test_a_safe_of_another_format_is_refused_with_words_and_nothing_is_touched(safe: KernelSafe, run_dir: Path) -> None:
    safe.put("token", b"hunter2")
    safe.put("lease", b"kept")
    for pin in pins(run_dir):
        fd = calls.get(str(pin))
        try:
            before = contents(fd)
            calls.write_element(fd, before[:4] + bytearray(struct.pack("<I", FORMAT + 1)) + before[8:])
        finally:
            os.close(fd)
    left = pins(run_dir)
    with pytest.raises(Refused) as refused:
        open_safe(run_dir)
    assert (refused.value.code, refused.value.field) == (Code.FAILED_PRECONDITION, "safe")
    assert f"format {FORMAT + 1}, this agent has format {FORMAT}" in refused.value.why
    assert "--clean" in refused.value.fix
    assert pins(run_dir) == left
    wipe_all(run_dir / BPFFS / SAFE)
    assert opened(run_dir).names() == []


def test_pins_of_other_things_are_no_blobs(safe: KernelSafe, run_dir: Path) -> None:
    safe.put("token", b"hunter2")
    folder = run_dir / BPFFS / SAFE
    for kind, name, size in (("array", "other", 64), ("hash", MAP_NAME, 64), ("array", MAP_NAME, 4)):
        fd = calls.create_map(kind, name, size, 1)
        try:
            calls.pin(fd, str(folder / f"{len(pins(run_dir)):032x}_{1 << 20:016x}"))
        finally:
            os.close(fd)
    later = opened(run_dir)
    assert (later.names(), later.get("token")) == (["token"], b"hunter2")
    assert len(pins(run_dir)) == 1


def test_a_kernel_without_memory_refuses_and_leaves_what_was_there(
    safe: KernelSafe, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise calls.KernelError("map_create", 12)

    safe.put("token", b"kept")
    monkeypatch.setattr(calls, "create_map", fails)
    with pytest.raises(Refused, match="ENOMEM") as refused:
        safe.put("token", b"new")
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert safe.get("token") == b"kept"
    assert isinstance(open_safe(run_dir), MemorySafe), "the agent goes on without"
    monkeypatch.undo()
    assert opened(run_dir).get("token") == b"kept"


def test_what_could_not_be_wiped_is_wiped_at_the_next_occasion(
    safe: KernelSafe, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise calls.KernelError("map_update", 12)

    safe.put("token", b"old")
    with monkeypatch.context() as patched:
        patched.setattr(calls, "write_element", fails)
        safe.drop("token")
    assert (safe.names(), len(pins(run_dir))) == ([], 1)
    safe.drop("anything")
    assert pins(run_dir) == []


# Who can see it


def test_no_workload_and_no_other_mount_namespace_sees_the_safe(node: Node) -> None:
    node.kernel.safe.put("vault-token:payments", b"hunter2")
    pod, _ = shown(node, From.ANY)
    app = pod.container()
    (pin,) = pins(node.run_dir)
    assert not [path for path in app("walk", "/secrets") + app("walk", "/run") if SAFE in path]
    seen = [mount for mount in mounts.read_mounts(f"/proc/{app.pid}/mountinfo") if mount.kind == "bpf"]
    assert [mount.point for mount in seen] == ["/secrets/.kernelsecret"]
    own = next(mount for mount in mounts.read_mounts() if mount.point == str(node.run_dir / BPFFS))
    assert own.device not in {mount.device for mount in seen}
    assert [path.stat().st_mode & 0o077 for path in (node.run_dir, node.run_dir / BPFFS, pin.parent)] == [0, 0, 0]


def test_volumes_and_the_safe_do_not_meet(node: Node) -> None:
    node.kernel.safe.put("vault-token:payments", b"hunter2")
    pod, volume = shown(node, From.ANY)
    node.end(volume)
    pod.volumes.clear()
    node.restart()
    assert node.kernel.safe.get("vault-token:payments") == b"hunter2"
