"""A node with the whole agent as a real process, called over its real CSI socket as kubelet does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from agent.csi.client import CallError, KubeletClient, publish_message
from agent.delivery import mounts
from agent.settings import Settings
from agent.upkeep import clean
from tests.agent import leaks
from tests.agent.pods import Cgroups, Program
from tests.agent.saying import Saying
from tests.agent.tree import NODE, Pod, Tree

HERE = Path(__file__).parents[2]
AGENT = (
    "import os, sys; from agent.service import run; from agent.settings import Settings;"
    "sys.exit(run(Settings.load(os.environ)))"
)
DEADLINE_S = 60.0
"""Generous: a machine that does other things too is slow, and nothing waits longer than it has to."""
POLL_S = 0.005


async def until(done: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; AssertionError with `what` where it does not come."""
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, f"in {deadline_s:g} s not: {what}"
        await asyncio.sleep(POLL_S)


class Node(Tree, Saying):
    """One node. `start` and `kill` its agent, `publish` and `unpublish` as kubelet, `read` as a pod."""

    command: Sequence[str] = (sys.executable, "-c", AGENT)
    """The agent, to be run with its settings in the environment."""

    def __init__(self) -> None:
        # Not pytest's folder: a unix socket's path has 107 bytes at most.
        super().__init__(Path(tempfile.mkdtemp(prefix="ks-agent-")))
        self.base.chmod(0o755)
        self.log = self.base / "agent.log"
        self.port = _free_port()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("KERNELSECRET_")} | {
            "KERNELSECRET_NODE": NODE,
            "KERNELSECRET_RUN_DIR": str(self.run),
            "KERNELSECRET_KUBELET_DIR": str(self.kubelet),
            "KERNELSECRET_FILE_SOURCE_DIR": str(self.secrets),
            "KERNELSECRET_CLUSTER": "files",
            "KERNELSECRET_CLUSTER_DIR": str(self.cluster),
            "KERNELSECRET_HTTP_ADDRESS": f"127.0.0.1:{self.port}",
            "KERNELSECRET_AUDIT_LOG": str(self.audit),
        }
        self.cgroups = Cgroups()
        self.pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._containers: dict[str, Path] = {}
        self._programs: list[Program] = []

    # The agent

    def start(self, *, inside: Path | None = None, **variables: str) -> None:
        """Start the agent; `variables` are settings without their prefix, in small letters, `inside` is its cgroup."""
        extra = {f"KERNELSECRET_{name.upper()}": value for name, value in variables.items()}
        enter = f"echo $$ > {inside}/cgroup.procs && " if inside else ""
        command = ["sh", "-c", f'{enter}exec "$@"', "sh", *self.command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self.env | extra, cwd=HERE, stdout=log, stderr=log)
        self.pid = self._process.pid

    async def started(self, *, inside: Path | None = None, **variables: str) -> None:
        """Start the agent and wait until it is ready."""
        self.start(inside=inside, **variables)
        await self.ready()

    async def ready(self) -> None:
        """Wait for /readyz; AssertionError with the log's end where the agent ended instead."""
        await until(self.is_ready, "the agent is ready")

    def is_ready(self) -> bool:
        """Whether it is ready; AssertionError with the log's end where it ended."""
        assert not self.is_gone(), f"the agent ended:\n{self.log.read_text()[-2000:]}"
        return self.says_ready()

    def is_gone(self) -> bool:
        """Whether the agent has ended."""
        if self._process is not None and self._process.pid == self.pid:
            return self._process.poll() is not None
        return wait_for_end(self.pid, 0)

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        self.ended()

    def pause(self) -> None:
        """It does not run, as on a node that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """It runs on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(DEADLINE_S)

    def ended(self) -> int:
        """Wait for the agent's end; its exit status (0 where it is not known)."""
        if self._process is not None and self._process.pid == self.pid:
            return self._process.wait(DEADLINE_S)
        assert wait_for_end(self.pid, DEADLINE_S), "the agent does not end"
        return 0

    # As kubelet

    async def publish(self, pod: Pod, *, over: KubeletClient | None = None, **changes: Any) -> None:
        """NodePublishVolume; `changes` override fields of the message (and `fs_group` is the pod's), `over` is a
        connection. Raises CallError.
        """
        fs_group: int | None = changes.pop("fs_group", None)
        message = publish_message(pod.volume_id, pod.target, pod.ref, pod.interceptor, fs_group=fs_group)
        context = changes.pop("volume_context", {})
        for name, value in changes.items():
            setattr(message, name, value)
        message.volume_context.update(context)
        async with AsyncExitStack() as stack:
            kubelet = over if over else await stack.enter_async_context(KubeletClient(self.csi_socket))
            await kubelet.publish(message, DEADLINE_S)

    async def refused(self, pod: Pod, **changes: Any) -> CallError:
        """A publish that must be refused; how it was."""
        try:
            await self.publish(pod, **changes)
        except CallError as error:
            return error
        raise AssertionError("published, but must be refused")

    async def unpublish(self, pod: Pod) -> None:
        """NodeUnpublishVolume. Raises CallError."""
        async with KubeletClient(self.csi_socket) as kubelet:
            await kubelet.unpublish(pod.volume_id, pod.target, DEADLINE_S)

    @property
    def csi_socket(self) -> Path:
        """Where the agent listens for kubelet."""
        return self.kubelet / "plugins/csi.kernelsecret.io/csi.sock"

    # As a pod

    def pod(
        self, name: str, interceptor: str, *, namespace: str = "shop", account: str = "web", **registered: str
    ) -> Pod:
        """As Tree.pod, with the pod's cgroup."""
        pod = super().pod(name, interceptor, namespace=namespace, account=account, **registered)
        self._containers[pod.ref.uid] = self.cgroups.make(pod)
        return pod

    def container(self, pod: Pod) -> Path:
        """The cgroup of the pod's one container."""
        return self._containers[pod.ref.uid]

    def program(self, pod: Pod) -> Program:
        """A program in the pod that reads when asked to."""
        self._programs.append(Program(self._containers[pod.ref.uid], "serve"))
        return self._programs[-1]

    def reader(self, pod: Pod, *names: str) -> Program:
        """A program in the pod that reads these files all the time."""
        self._programs.append(Program.loop(self._containers[pod.ref.uid], [pod.target / name for name in names]))
        return self._programs[-1]

    async def shows(self, pod: Pod, name: str, value: bytes) -> None:
        """Wait until the pod reads this value."""
        program = self.program(pod)
        await until(lambda: program.read(pod.target / name) == [value], "the new version is shown")

    def footprint(self) -> leaks.Footprint:
        """What volumes have left, see leaks.footprint."""
        return leaks.footprint(self.run)

    def mounts(self) -> list[str]:
        """Mount points on the node that are the agent's."""
        return leaks.mounts_at(self.base)

    async def settled(self, footprint: leaks.Footprint) -> None:
        """Wait until volumes have left no more than this: some of it is freed after a grace period."""
        try:
            await until(lambda: self.footprint() == footprint, "everything is freed")
        except AssertionError as error:
            now = self.footprint()
            wrong = {name: (now[name], footprint[name]) for name in footprint if now[name] != footprint[name]}
            raise AssertionError(f"left, and should be: {wrong}") from error

    # Afterwards

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Everything that the agent wrote or says of itself: (where, bytes). Not the volumes."""
        skipped = {self.secrets, self.run / "volumes", self.run / "bpf", self.kubelet / "pods"}
        for folder, names, files in os.walk(self.base):
            names[:] = [name for name in names if Path(folder) / name not in skipped]
            for path in (Path(folder) / name for name in files):
                if path.is_file():
                    yield str(path), path.read_bytes()
        if self.pid and not self.is_gone():
            for name in ("cmdline", "environ", "comm"):
                yield f"/proc/PID/{name}", Path(f"/proc/{self.pid}/{name}").read_bytes()
            yield "/metrics", self.metrics().encode()
            yield "/status", self.status_text().encode()

    def assert_kept(self, *secrets: bytes) -> None:
        """None of these values occurs in anything that the agent wrote: plain, encoded, or as a bare hash."""
        for where, text in self.written():
            for secret in secrets:
                for form in _forms(secret):
                    assert form not in text, f"a secret is in {where}"

    def close(self) -> list[str]:
        """End everything; what is left of it on the machine, in words."""
        for program in self._programs:
            program.close()
        if self.pid and not self.is_gone():
            self.kill()
        clean(Settings.load(self.env))
        left = [f"mount {point}" for point in leaks.mounts_at(self.base)]
        for point in reversed(leaks.mounts_at(self.base)):
            with suppress(mounts.MountError):
                mounts.unmount(point)
        left += [f"cgroup {path}" for path in self.cgroups.remove()]
        targets = self.kubelet.glob("pods/*/volumes/*/*/mount")
        left += [f"target {path}" for path in targets if not path.is_symlink()]
        shutil.rmtree(self.base)
        return left


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Whether a process that is not our child has ended, within a time."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _forms(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield base64.b64encode(secret).rstrip(b"=")[:-1]
    yield secret.hex().encode()
    for name in ("sha256", "sha1", "md5"):
        digest = hashlib.new(name, secret).digest()
        yield digest
        yield digest.hex()[:32].encode()
        yield base64.b64encode(digest)[:20]
