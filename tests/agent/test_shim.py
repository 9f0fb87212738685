"""Mode `preload` by a real agent over its real socket: both volumes, a real program, restarts, and what is refused."""

from __future__ import annotations

import asyncio
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.csi.client import CallError, KubeletClient, publish_message
from agent.delivery import mounts
from agent.delivery.shims import LIBRARY
from agent.settings import Settings
from agent.upkeep import clean
from kernelsecret import names
from kernelsecret.cli.simulation.pod import Container, python
from kernelsecret.cli.simulation.pod import Pod as Containers
from tests.agent.harness import AGENT, Node, until
from tests.agent.opening import opened
from tests.agent.tree import Pod, Tree, files_of

WAIVED = {"access": {"from": "app", "unenforced": "allow"}, "delivery": {"modes": ["preload", "ebpf"]}}
FILE = f"{names.MOUNT_ROOT}/db/password"
HOLDS = """
import os, sys
held = os.open(sys.argv[1], os.O_RDONLY)
for line in sys.stdin:
    os.lseek(held, 0, os.SEEK_SET)
    with open(sys.argv[1]) as file:
        print(os.read(held, 100).decode(), file.read(), flush=True)
"""
"""Reads a file by a descriptor that it has held from the start, rewound, and anew."""
INSTEAD = (
    "import agent.delivery.shims, os, pathlib; agent.delivery.shims.LIBRARY = pathlib.Path(os.environ['LIBRARY']);"
)


class Shimmed(Node):
    """A node whose agents have a shim of the test's choosing."""

    command: Sequence[str] = (Node.command[0], "-c", INSTEAD + AGENT)

    def __init__(self) -> None:
        super().__init__()
        self.library = self.base / "shim.so"
        self.env["LIBRARY"] = str(self.library)
        self.library.write_bytes(LIBRARY.read_bytes())
        self.secret("payments/db", {"password": b"one"})
        self.interceptor("db", [files_of("payments/db", "password")], **WAIVED)


@pytest.fixture
def node() -> Iterator[Shimmed]:
    with opened(Shimmed) as made:
        yield made


@pytest.fixture(scope="module")
def running() -> Iterator[Shimmed]:
    """A node with its agent, for what is refused."""
    with opened(Shimmed) as made:
        asyncio.run(made.started())
        yield made


async def publish(node: Node, *volumes: Pod) -> None:
    """As kubelet does at the start of a pod, and every 86 s afterwards."""
    async with KubeletClient(node.csi_socket) as kubelet:
        for one in volumes:
            await node.publish(one, over=kubelet)


def started(containers: Containers, pod: Pod, shim: Pod) -> Container:
    """A program in a container, with the volumes and variables that admission gives it."""
    volumes = {"db": pod.target, names.SHIM_ROOT.removeprefix(f"{names.MOUNT_ROOT}/"): shim.target}
    variables = {
        names.ENV_PRELOAD: f"{names.SHIM_ROOT}/{names.SHIM_FILE}",
        names.ENV_SHIM_PATHS: str(Path(FILE).parent),
    }
    return containers.container("app", [python(), "-c", HOLDS, FILE], volumes, environment=variables, stdin=True)


def reads(program: Container) -> str:
    """What the program reads now: held, and anew."""
    assert program.process.stdin is not None
    program.process.stdin.write(b"\n")
    program.process.stdin.flush()
    return program.process.stdout.readline().decode().strip()


async def test_a_program_follows_rotations_under_the_shim_through_republishes_and_restarts_of_the_agent(
    node: Shimmed,
) -> None:
    await node.started()
    empty = node.footprint()
    pod = Tree.pod(node, "web", "db")
    shim = node.preload(pod)
    await publish(node, shim, pod)
    with Containers(pod.ref.uid, "shop", "web") as containers:
        program = started(containers, pod, shim)
        assert reads(program) == "one one"
        assert names.SHIM_FILE in Path(f"/proc/{program.pid}/maps").read_text()
        for number, value in enumerate(("two", "three", "four")):
            node.secret("payments/db", {"password": value.encode()})
            await until(lambda value=value: reads(program) == f"{value} {value}", f"{value} is shown")  # type: ignore[misc]
            if number:
                await publish(node, pod, shim)
            else:
                node.kill()
                await node.started()
        status = node.status()
        assert [(one["mode"], one["engine"]) for one in status["volumes"]] == [("preload", "tmpfs")]
        assert [(one["pod"], len(one["content"])) for one in status["shims"]] == [("web", 32)]
        assert node.metric("kernelsecret_shim_volumes") == 1
        assert node.metric("kernelsecret_unenforced_volumes_total") == 0, "who takes the mode knows it"
    for one in (pod, shim):
        await node.unpublish(one)
        await node.unpublish(one)
    await node.settled(empty)


async def test_pods_of_two_modes_share_a_secret_each_in_its_own_way(running: Shimmed) -> None:
    running.secret("payments/both", {"password": b"one"})
    running.interceptor("shared", [files_of("payments/both", "password")], **WAIVED)
    kernel, ordinary = (running.pod(name, "shared") for name in ("kernel", "ordinary"))
    running.preload(ordinary)
    await publish(running, kernel, ordinary)
    modes = {one["pod"]: (one["mode"], one["engine"]) for one in running.status()["volumes"]}
    assert (modes["kernel"], modes["ordinary"]) == (("ebpf", "iter"), ("preload", "tmpfs"))
    programs = [(running.program(pod), pod.target / "password") for pod in (kernel, ordinary)]
    for value in (b"two", b"three"):
        running.secret("payments/both", {"password": value})
        await until(lambda value=value: [one.read(path) for one, path in programs] == [[value]] * 2, "it is shown")  # type: ignore[misc]
    assert mmapped(ordinary.target / "password") == b"three"
    with pytest.raises(OSError, match="No such device"):
        mmapped(kernel.target / "password")
    (secret,) = (one for one in running.status()["secrets"] if one["path"] == "payments/both")
    readers = {one["pod"]: (one["mode"], one["standing"]) for one in secret["readers"]}
    assert readers == {"kernel": ("ebpf", "current"), "ordinary": ("preload", "unknown")}
    for pod in (kernel, ordinary):
        await running.unpublish(pod)


def mmapped(path: Path) -> bytes:
    """A file's content by a mapping."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 5, prot=mmap.PROT_READ) as mapped:
        return mapped[:]


async def test_the_next_agent_leaves_running_pods_their_shim_gives_others_its_own_and_ends_what_has_no_pod(
    node: Shimmed,
) -> None:
    await node.started()
    empty = node.footprint()
    pods = {name: Tree.pod(node, name, "db") for name in ("old", "gone", "new")}
    old, gone, new = (node.preload(pod) for pod in pods.values())
    await publish(node, old, gone)
    node.kill()
    node.library.write_bytes(LIBRARY.read_bytes() + b"newer")
    (node.cluster / "pods" / "shop.gone.yaml").unlink()
    await node.started()
    assert [one["pod"] for one in node.status()["shims"]] == ["old"]
    assert [(one["pod"], one["reason"]) for one in node.audited("unpublished")] == [("gone", "orphan")]
    await publish(node, old, new)
    assert (old.target / names.SHIM_FILE).read_bytes() == LIBRARY.read_bytes()
    assert (new.target / names.SHIM_FILE).read_bytes() == node.library.read_bytes()
    await node.unpublish(old)
    assert len(os.listdir(node.run / "shim")) == 1
    await node.unpublish(new)
    await node.settled(empty)
    await publish(node, new)
    node.kill()
    assert clean(Settings.load(node.env)) == 1
    assert node.mounts() == []


async def test_a_node_whose_agent_has_no_shim_says_so_and_serves_the_rest(running: Shimmed) -> None:
    pod = Tree.pod(running, "web", "db")
    shim = running.preload(pod)
    running.library.rename(running.base / "away")
    refused = await running.refused(shim)
    (running.base / "away").rename(running.library)
    assert refused.code == "FAILED_PRECONDITION"
    assert names.SHIM_FILE in refused.details
    assert "another mode" in refused.details
    assert not shim.target.exists()
    await publish(running, pod)
    assert (pod.target / "password").read_bytes() == b"one"
    await running.unpublish(pod)


async def test_a_rule_that_a_node_cannot_hold_is_told_once_a_volume(node: Shimmed) -> None:
    await node.started(engine="tmpfs")
    pod = Tree.pod(node, "web", "db")
    await publish(node, pod)
    await publish(node, pod)
    (told,) = node.audited("served-unenforced")
    assert (told["pod"], told["engine"], told["access"]) == ("web", "tmpfs", "app")
    assert told["why"] == "KERNELSECRET_ENGINE asks for tmpfs"
    assert node.metric("kernelsecret_unenforced_volumes_total", engine="tmpfs") == 1
    assert [(one["mode"], one["engine"]) for one in node.status()["volumes"]] == [("ebpf", "tmpfs")]


def annotated(**annotations: str) -> Callable[[Any], None]:
    return lambda pod: pod["metadata"]["annotations"].update(
        {f"{names.GROUP}/{key.replace('_', '-')}": value for key, value in annotations.items()}
    )


def without(annotation: str) -> Callable[[Any], None]:
    return lambda pod: pod["metadata"]["annotations"].pop(annotation)


def with_attributes(attributes: Mapping[str, str]) -> Callable[[Any], None]:
    return lambda pod: pod["spec"]["volumes"][-1]["csi"].update({"volumeAttributes": dict(attributes)})


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        (without(names.ANNOTATION_CHOSEN_MODE), "annotations[kernelsecret.io/chosen-mode]", "missing"),
        (annotated(chosen_mode="ebpf"), "annotations[kernelsecret.io/chosen-mode]", "'preload' alone"),
        (annotated(chosen_mode="vault-agent"), "annotations[kernelsecret.io/chosen-mode]", "'preload' alone"),
        (annotated(inject="false"), "annotations[kernelsecret.io/inject]", "has not opted in"),
        (without(names.ANNOTATION_INJECT), "annotations[kernelsecret.io/inject]", "has not opted in"),
        (with_attributes({names.ATTRIBUTE_INTERCEPTOR: "db"}), "csi.volumeAttributes", "does not ask for"),
        (with_attributes({names.ATTRIBUTE_SHIM: "no"}), "csi.volumeAttributes", "does not ask for"),
        (lambda pod: pod["spec"]["volumes"].pop(), "spec.volumes", "has no volume"),
        (lambda pod: pod["spec"].update({"nodeName": "other"}), "spec.nodeName", "this node"),
        (lambda pod: pod["metadata"].update({"uid": "other"}), "pod.uid", "was replaced"),
        (lambda pod: pod["metadata"].update({"deletionTimestamp": "2026-01-01T00:00:00Z"}), "deletion", "deleted"),
    ],
)
async def test_the_shim_is_for_live_pods_that_opted_in_and_were_given_the_mode(
    running: Shimmed, change: Callable[[Any], None], field: str, word: str
) -> None:
    pod = Tree.pod(running, "wrong", "db")
    shim = running.preload(pod)
    running.change_pod(pod, change)
    refused = await running.refused(shim)
    assert refused.code in ("PERMISSION_DENIED", "FAILED_PRECONDITION")
    assert field in refused.details
    assert word in refused.details
    assert not shim.target.exists()
    assert running.audited("publish-refused")[-1]["pod"] == "wrong"


async def test_a_namespace_that_did_not_opt_in_is_given_no_shim(running: Shimmed) -> None:
    running.namespace("bank", inject="no")
    pod = Tree.pod(running, "wrong", "db", namespace="bank")
    refused = await running.refused(running.preload(pod))
    assert "namespace.metadata.labels[kernelsecret.io/inject]" in refused.details


@pytest.mark.parametrize("context", [{names.ATTRIBUTE_INTERCEPTOR: "db"}, {names.ATTRIBUTE_SHIM: "yes"}])
async def test_a_request_that_asks_for_both_or_for_nothing_known_is_refused(
    running: Shimmed, context: Mapping[str, str]
) -> None:
    shim = running.preload(Tree.pod(running, "wrong", "db"))
    refused = await running.refused(shim, volume_context=context)
    assert refused.code == "INVALID_ARGUMENT"
    assert f"volume_context[{names.ATTRIBUTE_SHIM}]" in refused.details


async def test_a_published_shim_is_no_other_pod_s_and_stays_when_the_opt_in_goes(running: Shimmed) -> None:
    pod, other = (Tree.pod(running, name, "db") for name in ("mine", "theirs"))
    shim, theirs = running.preload(pod), running.preload(other)
    await publish(running, shim)
    message = publish_message(shim.volume_id, theirs.target, theirs.ref, None)
    async with KubeletClient(running.csi_socket) as kubelet:
        with pytest.raises(CallError, match="unpublish it first"):
            await kubelet.publish(message)
        running.annotate(pod, "false")
        await running.publish(shim, over=kubelet)
    assert os.listdir(shim.target) == [names.SHIM_FILE]
    await running.unpublish(shim)


@pytest.mark.parametrize(
    ("mode", "spec", "field", "word"),
    [
        ("vault-agent", WAIVED, "annotations[kernelsecret.io/chosen-mode]", "takes nothing from this node"),
        ("vault-agent", {"delivery": {"modes": ["vault-agent"]}}, "chosen-mode", "takes nothing from this node"),
        ("preload", {"delivery": {"modes": ["ebpf"]}}, "chosen-mode", "spec.delivery.modes (ebpf)"),
        ("ebpf", {"delivery": {"modes": ["preload"]}}, "chosen-mode", "spec.delivery.modes (preload)"),
        ("", {"delivery": {"modes": ["preload"]}}, "chosen-mode", "missing, which means 'ebpf'"),
        ("magic", WAIVED, "chosen-mode", "'magic' is not one of"),
        ("preload", {"delivery": {"modes": ["preload"]}}, "spec.access.unenforced", "the mode `preload` is served by"),
    ],
)
async def test_secrets_are_not_served_in_a_mode_that_the_interceptor_or_the_node_has_not(
    running: Shimmed, mode: str, spec: Mapping[str, Any], field: str, word: str
) -> None:
    running.interceptor("narrow", [files_of("payments/db", "password")], **spec)
    pod = Tree.pod(running, "wrong", "narrow")
    running.preload(pod, mode)
    if not mode:
        running.change_pod(pod, without(names.ANNOTATION_CHOSEN_MODE))
    refused = await running.refused(pod)
    assert refused.code in ("PERMISSION_DENIED", "FAILED_PRECONDITION")
    assert field in refused.details
    assert word in refused.details
    assert not pod.target.exists()


def test_no_volume_of_secrets_may_be_executed_from_and_the_shim_s_may(running: Shimmed) -> None:
    pod = Tree.pod(running, "both", "db")
    shim = running.preload(pod)
    asyncio.run(publish(running, pod, shim))
    try:
        found = {mount.point for mount in mounts.read_mounts()}
        assert {str(pod.target), str(shim.target)} <= found
        options = {
            target: subprocess.run(
                ["findmnt", "-no", "OPTIONS", target], capture_output=True, text=True, check=True
            ).stdout.strip()
            for target in (pod.target, shim.target)
        }
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(options[pod.target].split(","))
        assert {"ro", "nosuid", "nodev"} <= set(options[shim.target].split(","))
        assert "noexec" not in options[shim.target]
    finally:
        for one in (pod, shim):
            asyncio.run(running.unpublish(one))
