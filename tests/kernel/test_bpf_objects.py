"""What can be done with the BPF objects that a workload or a privileged process gets hold of."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest

from agent.kernel.layout import Reason
from agent.model import From
from tests.kernel.harness import eyes
from tests.kernel.harness.node import Node
from tests.kernel.harness.rules import FILE, VALUE, shown

LINK_UPDATE, LINK_DETACH, OBJ_PIN = 29, 34, 6
NOT_ALLOWED = {errno.EROFS, errno.EPERM, errno.EACCES}


@pytest.mark.parametrize("capabilities", ["default", "none"])
def test_nothing_that_a_workload_sees_opens_a_map_or_a_program(node: Node, capabilities: str) -> None:
    pod, _ = shown(node, From.ANY)
    app = pod.container(capabilities=capabilities)
    paths = app("walk", "/secrets")
    assert "/secrets/.kernelsecret/0" in paths
    assert not [path for path in app("walk", "/run") if "kernelsecret" in path]
    for path in paths:
        for flags in (0, 1 << 3, 1 << 4):  # as it is, BPF_F_RDONLY, BPF_F_WRONLY
            got = app("kind_of_pin", path, flags)
            assert got in ("anon_inode:bpf-link", "anon_inode:bpf_link") or got in NOT_ALLOWED | {errno.EINVAL}, (
                path,
                got,
            )
    for kind in eyes.NEXT_ID.values():
        with pytest.raises(PermissionError):
            app("bpf", kind, struct.pack("=II", 0, 0).hex())
    assert app.read(FILE).data == VALUE


def test_a_link_in_the_hands_of_an_uncapable_root_gives_no_byte_and_cannot_be_broken(node: Node) -> None:
    """DAC_OVERRIDE opens the link even through a read-only mount; what can be made of it is judged as every reader."""
    pod, volume = shown(node, From.ANY)
    app = pod.container()
    shell = pod.exec(app)
    link = shell("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), FILE)
    found = shell.read_fd(shell("bpf", eyes.ITER_CREATE, struct.pack("=II", link, 0).hex()))
    assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.MOUNT: 1}
    for command, attributes in ((LINK_DETACH, (link,)), (LINK_UPDATE, (link, link, 0, 0))):
        with pytest.raises(OSError):  # noqa: PT011 - whichever errno this kernel has for it
            shell("bpf", command, struct.pack(f"={len(attributes)}I", *attributes).hex())
    assert app.read(FILE).data == VALUE


def test_an_iterator_that_a_privileged_process_makes_of_a_link_is_judged(node: Node) -> None:
    """Even of the pod itself, and under `any`: what it makes is not a file of the volume's mount."""
    pod, volume = shown(node, From.ANY)
    app = pod.container(capabilities="all", mounts=((node.run_dir / "volumes" / volume.state.name, "/writable"),))
    host = node.process()
    places = ((app, "/writable/.kernelsecret/0"), (host, str(node.run_dir / "bpf" / "links" / volume.state.name)))
    for task, path in places:
        link = task("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), path)
        assert "link" in task("descriptor_kind", link)
        found = task.read_fd(task("bpf", eyes.ITER_CREATE, struct.pack("=II", link, 0).hex()))
        assert (found.data, found.errno) == (b"", errno.E2BIG)
    assert volume.refusals() == {Reason.MOUNT: 2}


def test_a_link_pinned_elsewhere_by_a_privileged_process_opens_nothing(node: Node, tmp_path: Path) -> None:
    """Another bpffs is another device, and another inode there is no file of the grant."""
    pod, volume = shown(node, From.ANY)
    app = pod.container(capabilities="all", mounts=((node.run_dir / "volumes" / volume.state.name, "/writable"),))
    link = app("bpf", eyes.OBJ_GET, struct.pack("=II", 0, 0).hex(), "/writable/.kernelsecret/0")
    app("attempt", "mkdir", "/tmp/own")
    app("mount", "bpf", "/tmp/own", "bpf", 0)
    for path in ("/tmp/own/stolen", "/writable/.kernelsecret/stolen"):
        app("bpf", OBJ_PIN, struct.pack("=II", link, 0).hex(), path)
        found = app.read(path)
        assert (found.data, found.errno) == (b"", errno.E2BIG), path
    assert volume.refusals() == {Reason.MOUNT: 2}
