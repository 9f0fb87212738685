"""A pod and its containers, started as kubelet and runc do it: cgroup, attach, namespaces, exec, in this order."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from kernelsecret.cli.simulation.cgroups import PodCgroups, read_hierarchies
from kernelsecret.cli.simulation.process import Process

# What runtimes give a container that asks for nothing: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
# SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
DEFAULT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
SECRETS = "/var/run/secrets"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", "LC_ALL": "C"}
START_WITHIN_S = 20.0


class CannotStart(Exception):
    """A container or a process in one could not be started; the text says at which step."""


def python() -> str:
    """The interpreter as containers see it (never a virtual environment's: those are not in a container)."""
    return os.path.realpath(sys.executable)


class Container:
    """A running container. Get one from `Pod.container`."""

    def __init__(self, pod: Pod, container_id: str, name: str, process: Process, launched: dict[str, Any]) -> None:
        self.pod = pod
        self.id = container_id
        self.name = name
        self.process = process
        """The container's first process."""
        self._launched = launched

    @property
    def pid(self) -> int:
        """Host pid of the first process."""
        return self.process.pid

    @property
    def cgroup(self) -> Path:
        """The container's cgroup in the hierarchy that the agent looks at."""
        return self.pod.cgroup / self.id

    def enter(self, argv: Sequence[str], *, stdin: bool = False, uid: int | None = None) -> Process:
        """`kubectl exec`: a process from outside, moved into the container's cgroup and then its namespaces."""
        changed = {"join": self.pid, "argv": list(argv), "uid": self._launched["uid"] if uid is None else uid}
        return self.pod.launch(self._launched | changed, lambda pid: self.attach(pid), stdin=stdin)

    def attach(self, pid: int) -> None:
        """Move any process of the host into the container's cgroup, and no further."""
        self.pod.cgroups.attach(pid, self.id)


class Pod:
    """A pod's cgroups and its containers. As a context manager it removes everything at the end."""

    def __init__(
        self,
        uid: str,
        namespace: str,
        name: str,
        *,
        cgroup_path: str | None = None,
        hierarchies: Sequence[Path] | None = None,
    ) -> None:
        """`cgroup_path` is below each hierarchy's root (default: as kubelet's cgroupfs driver makes it). `hierarchies`
        are roots, the decisive one first; empty for a pod without cgroups. Raises OSError."""
        self.uid = uid
        self.namespace = namespace
        self.name = name
        self.containers: list[Container] = []
        self._processes: list[Process] = []
        roots = read_hierarchies() if hierarchies is None else list(hierarchies)
        self.cgroups = PodCgroups.make(cgroup_path or f"kubepods/burstable/pod{uid}", roots)
        self._root = Path(tempfile.mkdtemp(prefix="kernelsecret-root-"))

    def __enter__(self) -> Pod:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def cgroup(self) -> Path:
        """The pod's cgroup in the hierarchy that the agent looks at."""
        return self.cgroups.directories[0]

    def container(
        self,
        name: str,
        argv: Sequence[str],
        volumes: Mapping[str, Path] | None = None,
        *,
        uid: int = 0,
        gid: int = 0,
        groups: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
        binds: Mapping[str, Path] | None = None,
        capabilities: Iterable[int] = DEFAULT_CAPABILITIES,
        share_pids_with: Container | None = None,
        host_pids: bool = False,
        stdin: bool = False,
        executable: str | None = None,
    ) -> Container:
        """Start a container.

        `volumes` are shown read-only at /var/run/secrets/<key>; `binds` map paths in the container to paths of the
        host, writable. The root is otherwise the host's programs, read-only, with a fresh /tmp. `executable` is what
        is run where that is not what `argv[0]` says. Raises CannotStart.
        """
        container_id = secrets.token_hex(32)
        namespaces = ["mnt", "uts", "ipc"] + ([] if host_pids or share_pids_with else ["pid"])
        orders: dict[str, Any] = {
            "join": 0,
            "join_pids": share_pids_with.pid if share_pids_with else 0,
            "namespaces": namespaces,
            "own_pids": not host_pids,
            "hostname": self.name[:63],
            "root": str(self._root),
            "system": SYSTEM,
            "binds": _binds(volumes or {}, binds or {}),
            "argv": list(argv),
            "executable": executable,
            "environment": ENVIRONMENT | dict(environment or {}),
            "uid": uid,
            "gid": gid,
            "groups": list(groups),
            "capabilities": sorted(capabilities),
        }
        self.cgroups.make_container(container_id)
        process = self.launch(orders, lambda pid: self.cgroups.attach(pid, container_id), stdin=stdin)
        joined = [*namespaces, "pid"] if share_pids_with else namespaces
        made = Container(self, container_id, name, process, orders | {"namespaces": joined, "executable": None})
        self.containers.append(made)
        return made

    def launch(self, orders: Mapping[str, Any], attach: Callable[[int], None], *, stdin: bool = False) -> Process:
        """Start the launcher, attach it, give it its orders, wait for the exec. Raises CannotStart."""
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            ours.settimeout(START_WITHIN_S)
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
            )
            theirs.close()
            assert launcher.stdout is not None
            assert launcher.stderr is not None
            answer: dict[str, str] = {}
            try:
                attach(launcher.pid)
                ours.sendall(json.dumps(orders).encode() + b"\n")
                for line in ours.makefile("r"):
                    word, _, value = line.rstrip("\n").partition(" ")
                    answer[word] = value
            except OSError as error:
                launcher.kill()
                launcher.wait()
                raise CannotStart(f"{orders['argv'][0]}: {error}") from error
            launcher.wait()
            if "pid" not in answer:
                why = answer.get("error") or launcher.stderr.read().decode(errors="replace").strip()
                raise CannotStart(f"{orders['argv'][0]}: {why or 'the launcher died'}")
            stdin_ = launcher.stdin if stdin else None
            process = Process(int(answer["pid"]), launcher.stdout, launcher.stderr, stdin_)
            self._processes.append(process)
            if "error" in answer:
                raise CannotStart(f"{orders['argv'][0]}: {answer['error']}")
            return process

    def kill(self) -> None:
        """Kill every process that was started here. Idempotent."""
        for process in reversed(self._processes):
            process.send(signal.SIGKILL)
        # The last first: the end of a pid namespace's first process waits until every other one in it has been reaped.
        for process in reversed(self._processes):
            process.close()
        self._processes.clear()

    def remove(self) -> None:
        """Kill every process of the pod, also those that moved in, and remove its cgroups. Idempotent."""
        self.kill()
        self.cgroups.remove()
        shutil.rmtree(self._root, ignore_errors=True)


def _binds(volumes: Mapping[str, Path], binds: Mapping[str, Path]) -> list[tuple[str, str, bool]]:
    found = [(f"{SECRETS}/{name}", str(target), True) for name, target in volumes.items()]
    found += [(point, str(source), False) for point, source in binds.items()]
    if not any(sys.base_prefix.startswith(f"{path}/") or sys.base_prefix == path for path in SYSTEM):
        found.append((sys.base_prefix, sys.base_prefix, True))
    return found
