"""A node of a scenario's own: agent, secrets, pods with real cgroups, kubelet's side of the CSI socket. All gone at the
end, however it ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from ctypes import Structure
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from agent.csi.client import KubeletClient, publish_message, target_path_of
from agent.delivery import mounts
from agent.kernel import calls
from agent.kernel.node import read_facts
from agent.kernel.tables import Table
from agent.model import PodRef
from agent.node_kernel import BPFFS
from agent.settings import Settings
from agent.upkeep import clean
from bench import cluster
from bench.agent_process import AgentProcess, status_of
from bench.tools import Tools
from kernelsecret.interceptor import Mode

S = TypeVar("S", bound=Structure)

VOLUME = "secrets"
APP: dict[str, Any] = {"from": "app"}
"""The default rule, so that every read is judged by its lineage too."""
WAIVED: Mapping[str, Any] = APP | {"unenforced": "allow"}
"""The same, where ordinary files will do."""


@dataclass(slots=True)
class Pod:
    """A pod: its cgroup, and where its volume is shown."""

    ref: PodRef
    interceptor: str
    volume_id: str
    target: Path
    cgroup: Path
    containers: list[Path] = field(default_factory=list)


class World:
    """Use as a context manager. Everything is synchronous for the caller."""

    def __init__(self, settings: Mapping[str, object] | None = None) -> None:
        """`settings` are more of the agent's: names without prefix, as `{"VAULT_ADDRESS": ...}`."""
        facts = read_facts()
        if facts.cgroup is None:
            raise RuntimeError("this machine has no cgroup hierarchy that a pod could live in")
        self.folder = Path(tempfile.mkdtemp(prefix="kernelsecret-bench-"))
        # Programs of pods that are not root go through it; the agent's own folders are closed by itself.
        self.folder.chmod(0o711)
        self.tools = Tools(self.folder / "tools")
        self._slice = facts.cgroup.root / "kubepods" / "burstable"
        self.agent_cgroup = facts.cgroup.root / self.folder.name
        self.environment = self._environment(settings or {})
        self.settings = Settings.load(self.environment)
        self._agent: AgentProcess | None = None
        self._pods: list[Pod] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._runner = asyncio.Runner()
        self._client: KubeletClient | None = None
        self._complaints = (self.folder / "complaints").open("wb")
        try:
            self._make_folders()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # The agent

    @property
    def agent(self) -> AgentProcess:
        """The agent that runs."""
        assert self._agent is not None
        return self._agent

    def start_agent(self) -> AgentProcess:
        """Start it and wait until it is ready."""
        launch = [str(self.tools.path("launch")), str(self.agent_cgroup / "cgroup.procs"), "0"]
        self._agent = AgentProcess(self.environment, launch)
        self._agent.wait_ready()
        return self._agent

    def status(self) -> dict[str, Any]:
        """The agent's status document."""
        return status_of(self.settings.admin_socket)

    @contextmanager
    def table(self, name: str, kind: type[S], entries: int) -> Iterator[Table[S]]:
        """One of the agent's array maps, as the kernel has it: what is measured does not rest on the agent's word."""
        fd = calls.get(str(self.settings.run_dir / BPFFS / "maps" / name))
        try:
            yield Table(fd, kind, entries)
        finally:
            os.close(fd)

    # Secrets

    def write_secret(self, path: str, values: Mapping[str, bytes]) -> None:
        """Make a secret, before anything watches it."""
        folder = self.settings.file_source_dir / path
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in values.items():
            (folder / key).write_bytes(value)

    def change_secret(self, path: str, key: str, value: bytes) -> int:
        """Replace one key at once; CLOCK_MONOTONIC ns just before the new value had the key's name."""
        folder = self.settings.file_source_dir / path
        unfinished = self.folder / "unfinished"
        unfinished.write_bytes(value)
        before = time.monotonic_ns()
        unfinished.rename(folder / key)
        return before

    # Pods

    def interceptor(
        self,
        name: str,
        files: cluster.Files,
        mode: str = "0440",
        source: cluster.MakeSource = cluster.file_source,
        access: Mapping[str, Any] = APP,
    ) -> None:
        """Write an interceptor."""
        made = cluster.interceptor(name, files, access, mode, source)
        cluster.write(self.settings.cluster_dir, "interceptors", name, made)

    def add_pod(self, interceptor: str, containers: int = 1, mode: Mode = Mode.EBPF) -> Pod:
        """A registered pod with its cgroups, as kubelet leaves it before it asks for the volume."""
        uid = str(uuid.uuid4())
        ref = PodRef(cluster.NAMESPACE, f"pod-{len(self._pods)}", uid, "app")
        target = target_path_of(self.settings.kubelet_dir, uid, VOLUME)
        pod = Pod(ref, interceptor, f"csi-{uid}", target, self._slice / f"pod{uid}")
        self._pods.append(pod)
        root = self.settings.cluster_dir
        cluster.write(root, "pods", f"{ref.namespace}.{ref.name}", cluster.pod_object(ref, interceptor, mode))
        cluster.write(root, "registrations", uid, cluster.registration(ref, interceptor))
        target.parent.mkdir(parents=True)
        for number in range(containers):
            container = pod.cgroup / f"c{number}"
            container.mkdir(parents=True)
            pod.containers.append(container)
        return pod

    def publish(self, pod: Pod) -> float:
        """Over the CSI socket, as kubelet does; seconds until the answer. Raises CallError for a refusal."""
        return self._runner.run(self._publish(pod))

    async def _publish(self, pod: Pod) -> float:
        if self._client is None:
            self._client = KubeletClient(self.settings.csi_socket)
        message = publish_message(pod.volume_id, pod.target, pod.ref, pod.interceptor)
        began = time.perf_counter()
        await self._client.publish(message)
        return time.perf_counter() - began

    def unpublish(self, pod: Pod) -> None:
        """End the volume, as kubelet does."""
        assert self._client is not None
        self._runner.run(self._client.unpublish(pod.volume_id, pod.target))

    def command(self, pod: Pod, tool: str, *arguments: str | Path, container: int = 0, uid: int = 0) -> list[str]:
        """A command line that starts a compiled tool as the first program of a container."""
        return self.inside(pod, self.tools.path(tool), *arguments, container=container, uid=uid)

    def inside(self, pod: Pod, program: Path, *arguments: str | Path, container: int = 0, uid: int = 0) -> list[str]:
        """A command line that starts any program as the first of a container."""
        launch, procs = self.tools.path("launch"), pod.containers[container] / "cgroup.procs"
        return [str(launch), str(procs), str(uid), str(program), *map(str, arguments)]

    def start(self, command: list[str], stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start a process that is ended with the world."""
        # Unbuffered: what select sees is all there is.
        process = subprocess.Popen(command, stdout=stdout, stderr=self._complaints, bufsize=0)
        self._processes.append(process)
        return process

    def complaint(self) -> str:
        """The first thing that a process of this world had to complain of."""
        return (self.folder / "complaints").read_text().partition("\n")[0] or "no process said why"

    # The end

    def close(self) -> None:
        """Take everything away: processes, agent, mounts, maps, cgroups, files. Idempotent."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            if process.stdout:
                process.stdout.close()
        self._processes.clear()
        self._complaints.close()
        if self._client is not None:
            self._runner.run(self._client.close())
            self._client = None
        self._runner.close()
        if self._agent is not None:
            self._agent.stop()
            self._agent = None
        clean(self.settings)
        for point in mounts.mounts_below(self.folder, mounts.read_mounts()):
            mounts.unmount(point)
        for pod in self._pods:
            for folder in (*pod.containers, pod.cgroup):
                with suppress(FileNotFoundError):
                    folder.rmdir()
        self._pods.clear()
        for folder in (self.agent_cgroup, self._slice, self._slice.parent):
            with suppress(OSError):  # somebody else's pods are in it
                folder.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self, more: Mapping[str, object]) -> dict[str, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        wanted: dict[str, object] = {
            "NODE": cluster.NODE,
            "RUN_DIR": self.folder / "run",
            "KUBELET_DIR": self.folder / "kubelet",
            "FILE_SOURCE_DIR": self.folder / "source",
            "CLUSTER": "files",
            "CLUSTER_DIR": self.folder / "cluster",
            "HTTP_ADDRESS": f"127.0.0.1:{port}",
            "AUDIT_LOG": self.folder / "audit.jsonl",
            "ENGINE": "iter",
        }
        ours = {f"KERNELSECRET_{name}": str(value) for name, value in (wanted | dict(more)).items()}
        return {name: "" for name in os.environ if name.startswith("KERNELSECRET_")} | ours

    def _make_folders(self) -> None:
        settings = self.settings
        for kind in cluster.FOLDERS:
            (settings.cluster_dir / kind).mkdir(parents=True)
        settings.file_source_dir.mkdir()
        (settings.kubelet_dir / "plugins_registry").mkdir(parents=True)
        settings.run_dir.mkdir()
        self.agent_cgroup.mkdir()
        # /run is a tmpfs on every node; what the agent keeps there counts as kernel memory.
        mounts.mount_new("tmpfs", settings.run_dir, "mode=700", 0)
        cluster.write(settings.cluster_dir, "namespaces", cluster.NAMESPACE, cluster.namespace())
