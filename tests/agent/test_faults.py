"""What the node lacks for a while: the last good value is served on, it is told, and all is well when mended."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.csi.client import CallError, KubeletClient
from agent.kernel import calls
from agent.kernel.layout import Chunk, ChunkKey, File, FileKey, Version, VersionKey
from agent.kernel.node import read_facts
from tests.agent.harness import Node, until
from tests.agent.leaks import Footprint
from tests.agent.tree import Pod, files_of

FOREIGN = 1 << 62
"""Ids that the agent does not give out soon."""
BATCH = 2048
FULL: dict[str, tuple[Callable[[int], ctypes.Structure], type[ctypes.Structure]]] = {
    "chunks": (lambda number: ChunkKey(FOREIGN, number), Chunk),
    "versions": (lambda number: VersionKey(FOREIGN, number, 0), Version),
    "files": (lambda number: FileKey(FOREIGN, number), File),
}


def value(tag: str) -> dict[str, bytes]:
    return {"password": f"password-{tag}".encode() * 300}


@pytest.fixture
def served(node: Node) -> Pod:
    """A pod to publish for; there is another interceptor, `other`, with another secret."""
    node.secret("payments/db", value("1"))
    node.interceptor("payments", [files_of("payments/db", "password")])
    node.secret("other/db", {"password": b"other" * 1000})
    node.interceptor("other", [files_of("other/db", "password")])
    return node.pod("web", "payments")


async def published(node: Node, pod: Pod) -> Footprint:
    await node.publish(pod)
    return node.footprint()


async def rotates(node: Node, pod: Pod, tag: str) -> None:
    """The pod sees a new version."""
    node.secret("payments/db", value(tag))
    await node.shows(pod, "password", value(tag)["password"])


def degraded(node: Node, reason: str) -> bool:
    """Whether a condition is in the status, the metrics and the log."""
    told = node.metric("kernelsecret_degraded", reason=reason) == 1
    return reason in node.conditions() and told and any(line["condition"] == reason for line in node.logged("degraded"))


async def recovers(node: Node, *reasons: str) -> None:
    """The conditions end, everywhere."""
    await until(lambda: not set(reasons) & set(node.conditions()), f"{reasons} end")
    for reason in reasons:
        assert node.metric("kernelsecret_degraded", reason=reason) == 0


def still(node: Node, pod: Pod, tag: str) -> None:
    """The pod still reads this version."""
    assert node.program(pod).read(pod.target / "password") == [value(tag)["password"]]


@contextmanager
def full(node: Node, name: str) -> Iterator[None]:
    """A map without room."""
    make, kind = FULL[name]
    fd = calls.get(str(node.run / "bpf/maps" / name))
    written, number = [], 0
    try:
        while True:
            keys: Any = (type(make(0)) * BATCH)(*(make(number + index) for index in range(BATCH)))
            try:
                calls.update_batch(fd, keys, (kind * BATCH)())
            except calls.KernelError:
                break
            written.append(keys)
            number += BATCH
        for index in range(number, number + BATCH):
            try:
                calls.update(fd, make(index), kind())
            except calls.KernelError:
                break
        yield
        for keys in written:
            calls.delete_batch(fd, keys)
        for index in range(number, number + BATCH):
            calls.delete(fd, make(index))
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["chunks", "versions"])
async def test_a_full_map_keeps_the_last_good_version(node: Node, served: Pod, name: str) -> None:
    await node.started()
    before = await published(node, served)
    other = node.pod("other", "other")
    with full(node, name):
        error = await node.refused(other)
        assert error.code == "RESOURCE_EXHAUSTED", error
        node.secret("payments/db", value("2"))
        await until(lambda: degraded(node, "rotation-failed"), "the condition shows")
        assert degraded(node, "kernel-limit")
        still(node, served, "1")
        assert any(line["errno"] in ("E2BIG", "ENOMEM", "ENOSPC") for line in node.audited("kernel-limit"))
    await node.shows(served, "password", value("2")["password"])
    await node.publish(other)
    await recovers(node, "rotation-failed", "kernel-limit")
    await node.unpublish(other)
    await node.settled(before)


async def test_a_map_that_has_no_room_for_files_refuses_a_publish_and_leaves_nothing(node: Node, served: Pod) -> None:
    await node.started()
    before = await published(node, served)
    other = node.pod("other", "other")
    with full(node, "files"):
        error = await node.refused(other)
        assert error.code == "RESOURCE_EXHAUSTED", error
        assert degraded(node, "kernel-limit")
        await rotates(node, served, "2")
    await node.settled(before)
    await node.publish(other)
    await recovers(node, "kernel-limit")


async def test_a_kernel_without_memory_keeps_the_last_good_version(node: Node, served: Pod) -> None:
    cgroup = read_facts().cgroup
    assert cgroup is not None
    limited = cgroup.root / f"ks-memory-{os.getpid()}"
    limited.mkdir()
    names = {1: ("memory.usage_in_bytes", "memory.limit_in_bytes"), 2: ("memory.current", "memory.max")}
    usage, limit = (limited / name for name in names[cgroup.version])
    unlimited = "-1" if cgroup.version == 1 else "max"
    try:
        await node.started(inside=limited)
        await published(node, served)
        # The maps are charged to where they were made; the agent itself is to keep its memory.
        (cgroup.root / "cgroup.procs").write_text(str(node.pid))
        limit.write_text(str((int(usage.read_text()) // 4096 + 1) * 4096))
        node.secret("payments/db", {"password": b"x" * 1_000_000})
        await until(lambda: degraded(node, "rotation-failed"), "the condition shows")
        assert "ENOMEM" in node.conditions()["rotation-failed"]
        assert node.metric("kernelsecret_syscalls_total", call="map_update_batch", result="ENOMEM") >= 1
        still(node, served, "1")
        limit.write_text(unlimited)
        await node.shows(served, "password", b"x" * 1_000_000)
        await recovers(node, "rotation-failed")
    finally:
        limit.write_text(unlimited)
        await node.unpublish(served)
        node.stop()
        limited.rmdir()


async def test_an_agent_without_descriptors_refuses_and_comes_back(node: Node, served: Pod) -> None:
    await node.started()
    before = await published(node, served)
    other = node.pod("other", "other")
    usual = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    async with KubeletClient(node.csi_socket) as kubelet:
        await node.publish(served, over=kubelet)  # connected: accepting takes a descriptor, too
        used = max(int(path.name) for path in Path(f"/proc/{node.pid}/fd").iterdir()) + 1
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (used, usual[1]))
        error = await node.refused(other, over=kubelet)
        assert error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"), error
        node.secret("payments/db", value("2"))
        still(node, served, "1")
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, usual)
    await node.shows(served, "password", value("2")["password"])
    await node.publish(other)
    await recovers(node, "kernel-limit", "source-down", "rotation-failed")
    await node.unpublish(other)
    await node.settled(before)


def remount(path: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


async def test_a_bpffs_that_is_read_only_refuses_publishes_and_rotates_on(node: Node, served: Pod) -> None:
    await node.started()
    before = await published(node, served)
    other = node.pod("other", "other")
    remount(node.run / "bpf", "ro")
    error = await node.refused(other)
    assert error.code == "FAILED_PRECONDITION"
    assert "read-only" in error.details
    assert degraded(node, "bpffs-read-only")
    await rotates(node, served, "2")
    remount(node.run / "bpf", "rw")
    await node.settled(before)
    await node.publish(other)
    await recovers(node, "bpffs-read-only")


async def test_an_agent_that_starts_without_its_bpffs_ends_no_live_volume(node: Node, served: Pod) -> None:
    """Regression: it went on by tmpfs, and unmounted what the kernel served."""
    await node.started()
    before = await published(node, served)
    node.kill()
    remount(node.run / "bpf", "ro")
    node.start()
    assert node.ended() != 0
    (failed,) = node.logged("agent failed")
    assert failed["field"] == "node"
    assert node.logged("engine probed")[-1]["reason"].endswith("(Read-only file system)")
    still(node, served, "1")
    remount(node.run / "bpf", "rw")
    await node.started()
    assert node.footprint() == before
    await rotates(node, served, "2")


async def test_an_unpublish_that_fails_is_finished_by_the_next(node: Node, served: Pod) -> None:
    await node.started()
    empty = node.footprint()
    await published(node, served)
    remount(node.run / "bpf", "ro")
    async with KubeletClient(node.csi_socket) as kubelet:
        with pytest.raises(CallError, match="INTERNAL"):
            await kubelet.unpublish(served.volume_id, served.target)
    remount(node.run / "bpf", "rw")
    await node.unpublish(served)
    await node.settled(empty)
    assert node.metric("kernelsecret_map_bytes", namespace="shop") == 0


async def test_a_source_that_goes_and_comes_back(node: Node, served: Pod) -> None:
    await node.started()
    await published(node, served)
    away = node.base / "away"
    node.secrets.rename(away)
    await until(lambda: degraded(node, "source-down"), "the condition shows")
    assert node.metric("kernelsecret_source_up", source="file") == 0
    still(node, served, "1")
    away.rename(node.secrets)
    await recovers(node, "source-down")
    assert node.metric("kernelsecret_source_up", source="file") == 1
    await rotates(node, served, "2")


async def test_an_agent_that_starts_without_its_source_serves_what_it_has(node: Node, served: Pod) -> None:
    await node.started()
    await published(node, served)
    node.kill()
    away = node.base / "away"
    node.secrets.rename(away)
    await node.started()
    assert degraded(node, "source-down")
    still(node, served, "1")
    away.rename(node.secrets)
    await rotates(node, served, "2")
    await recovers(node, "source-down")


async def test_a_key_that_leaves_the_source_is_told_and_served_on(node: Node, served: Pod) -> None:
    await node.started()
    await published(node, served)
    node.secret("payments/db", {"another": b"key"})
    await until(lambda: degraded(node, "source-down"), "the condition shows")
    assert "'password': removed" in node.conditions()["source-down"]
    still(node, served, "1")
    node.secret("payments/db", value("2") | {"another": b"key"})
    await node.shows(served, "password", value("2")["password"])
    await recovers(node, "source-down")


async def test_a_value_that_outgrows_its_quota_is_served_and_told(node: Node, served: Pod) -> None:
    """A bound keeps new volumes out; it does not make an application stale."""
    node.interceptor("payments", [files_of("payments/db", "password")], limits={"pod": {"bytes": 5000}})
    await node.started()
    await published(node, served)
    large = b"x" * 6000
    node.secret("payments/db", {"password": large})
    await node.shows(served, "password", large)
    await until(lambda: degraded(node, "quota-exceeded"), "the condition shows")
    assert "spec.limits.pod.bytes" in node.conditions()["quota-exceeded"]
    await rotates(node, served, "2")
    await recovers(node, "quota-exceeded")


async def test_a_cluster_that_cannot_be_seen_ends_no_volume(node: Node, served: Pod) -> None:
    """Not seen is not gone: a pod without a cgroup here has nobody else to speak for it."""
    late = node.pod("late", "payments")
    await node.started()
    await published(node, served)
    node.kill()
    node.cgroups.remove()
    away = node.base / "away"
    node.cluster.rename(away)
    await node.started()
    assert node.status()["adopted"] == 1
    assert [one["pod"] for one in node.status()["volumes"]] == ["web"]
    await node.publish(served)
    assert "cluster-unreadable" in node.conditions()
    assert (await node.refused(late)).code == "UNAVAILABLE"
    away.rename(node.cluster)
    await node.publish(served)
    assert "cluster-unreadable" not in node.conditions()
    node.kill()
    (node.cluster / "pods/shop.web.yaml").unlink()
    await node.started()
    assert node.status()["volumes"] == []
    assert not served.target.exists()


@contextmanager
def small_folder(node: Node, pages: int = 2) -> Iterator[Path]:
    """A folder on a file system of its own; the agent ends before it goes."""
    folder = node.base / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={pages * 4}k", "small", str(folder)], check=True)
    try:
        yield folder
    finally:
        node.kill()
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_state_folder_that_is_read_only_refuses_and_keeps_what_is_served(node: Node, served: Pod) -> None:
    with small_folder(node, pages=8) as folder:
        await node.started(state_dir=str(folder))
        before = await published(node, served)
        other = node.pod("other", "other")
        remount(folder, "ro")
        error = await node.refused(other)
        assert error.code == "FAILED_PRECONDITION", error
        assert "KERNELSECRET_STATE_DIR" in error.details
        assert degraded(node, "state-unwritable")
        await rotates(node, served, "2")
        remount(folder, "rw")
        await node.publish(other)
        await recovers(node, "state-unwritable")
        await node.unpublish(other)
        await node.settled(before)
        await node.unpublish(served)


@pytest.mark.parametrize("room", [0, 1])
async def test_a_state_folder_that_is_full_refuses_and_leaves_nothing(node: Node, served: Pod, room: int) -> None:
    """With room for one file the state before the mount can be written, and not the one after it."""
    with small_folder(node) as folder:
        await node.started(state_dir=str(folder))
        before = node.footprint()
        filler = folder / "filler"
        filler.write_bytes(bytes(4096 * (2 - room)))
        error = await node.refused(served)
        assert error.code == "RESOURCE_EXHAUSTED", error
        assert "KERNELSECRET_STATE_DIR" in error.details
        assert degraded(node, "state-unwritable")
        await node.settled(before)
        filler.unlink()
        await node.publish(served)
        await recovers(node, "state-unwritable")
        still(node, served, "1")
        await node.unpublish(served)


async def test_an_audit_log_that_cannot_be_written_is_told_and_stops_nothing(node: Node, served: Pod) -> None:
    with small_folder(node) as folder:
        node.audit = folder / "audit.jsonl"
        await node.started(audit_log=str(node.audit))
        filler = folder / "filler"
        filler.write_bytes(bytes(8192))
        await node.publish(served)
        await until(lambda: degraded(node, "audit-failing"), "the condition shows")
        still(node, served, "1")
        filler.unlink()
        await rotates(node, served, "2")
        await recovers(node, "audit-failing")
        assert node.audited("rotated")
        await node.unpublish(served)
