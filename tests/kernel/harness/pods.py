"""Pods as a node has them: a cgroup where kubelet makes it, containers with namespaces and a root of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kernel.harness.family import ACTOR, PYTHON, Actor, Family
from tests.kernel.harness.waiting import wait_until

RUNTIME = Path(__file__).with_name("runtime.py")
SECRETS = "/secrets"
"""Where a pod's volume is in its containers."""


def system_mounts() -> list[tuple[str, str, bool]]:
    """What an image brings: the system's programs and the actor's Python, read-only."""
    prefix = sys.base_prefix
    found = [("/usr", "/usr", True), (str(ACTOR.parent), str(ACTOR.parent), True)]
    if not prefix.startswith("/usr"):
        found.append((prefix, prefix, True))
    return found + [(path, path, True) for path in ("/bin", "/lib", "/lib64") if not os.path.islink(path)]


@dataclass
class PlainPod:
    """A pod on a node without cgroups for pods: namespaces are all it has."""

    family: Family
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    volumes: list[tuple[Path, str]] = field(default_factory=list)

    def container(self) -> Actor:
        """Its first program, in namespaces of its own; what is mounted on the node later comes through."""
        return self._launch(plain=True, new_pid_ns=True, argv=self.family.argv("app"))

    def exec(self, into: Actor, *namespaces: str) -> Actor:
        """An actor in the pod's namespaces, or in only these of them, entered from outside."""
        wanted = list(namespaces or ("pid", "mnt"))
        return self._launch(enter=into.pid, namespaces=wanted, argv=self.family.argv("shell"))

    def _launch(self, **config: Any) -> Actor:
        return self.family.launch([PYTHON, "-I", "-S", str(RUNTIME), json.dumps({"capabilities": "all", **config})])


@dataclass
class Pod:
    """One pod. `root` is the hierarchy's, `folder` a place for its containers' roots."""

    family: Family
    hierarchy: Path
    folder: Path
    qos: str = "burstable"
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))
    volumes: list[tuple[Path, str]] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.cgroup = self.hierarchy / "kubepods" / self.qos / f"pod{self.uid}"
        self.cgroup.mkdir(parents=True)

    def cgroup_of(self, container: str) -> Path:
        """A container's cgroup, made where it is not there."""
        path = self.cgroup / container
        path.mkdir(exist_ok=True)
        return path

    def start(
        self,
        container: str = "app",
        *,
        pid_ns: Actor | None = None,
        host_pid: bool = False,
        capabilities: str = "default",
        uid: int = 0,
        groups: tuple[int, ...] = (),
        overlay: str = "",
        argv: list[str] | None = None,
        join: str = "first",
        mounts: tuple[tuple[Path, str], ...] = (),
    ) -> None:
        """Start a container; its first program is an actor (welcome it) or `argv`."""
        self.count += 1
        root = self.folder / f"{container}-{self.count}"
        root.mkdir()
        binds = [(str(source), target, False) for source, target in (*self.volumes, *mounts)]
        self._launch(
            **{f"join_{join}": str(self.cgroup_of(container) / "cgroup.procs")},
            new_pid_ns=pid_ns is None and not host_pid,
            pid_ns_of=pid_ns.pid if pid_ns else 0,
            root=str(root),
            overlay=overlay,
            links={path: os.readlink(path) for path in ("/bin", "/lib", "/lib64") if os.path.islink(path)},
            mounts=[*system_mounts(), *binds],
            capabilities=capabilities,
            uid=uid,
            groups=list(groups),
            argv=argv or self.family.argv(container),
        )

    def container(self, name: str = "app", **options: Any) -> Actor:
        """Start a container whose first program is an actor."""
        self.start(name, **options)
        return self.family.welcome()

    def begin_exec(self, into: Actor, container: str = "app", argv: list[str] | None = None, **options: Any) -> None:
        """Start a program in a running container from outside, as `kubectl exec` and exec probes do."""
        order = options.pop("join", "first")
        procs = str(self.cgroup_of(container) / "cgroup.procs")
        self._launch(
            enter=into.pid,
            argv=argv or self.family.argv("shell"),
            capabilities=options.pop("capabilities", "default"),
            **{f"join_{order}": procs},
            **options,
        )

    def exec(self, into: Actor, container: str = "app", **options: Any) -> Actor:
        """An actor in a running container, entered from outside."""
        self.begin_exec(into, container, **options)
        return self.family.welcome()

    def exec_program(self, into: Actor, *argv: str) -> tuple[int, bytes]:
        """Run a program in a running container as an exec probe does: exit status and output."""
        self.begin_exec(into, argv=list(argv))
        process = self.processes[-1]
        output, _ = process.communicate(timeout=20)
        return process.returncode, output

    def _launch(self, **config: Any) -> None:
        config["leave"] = str(self.hierarchy / "cgroup.procs")
        by_shell = config.pop("join_by_shell", None)
        command = [PYTHON, "-I", "-S", str(RUNTIME), json.dumps(config)]
        if by_shell:
            command = ["/bin/sh", "-c", f'echo $$ > {by_shell}; exec "$@"', "sh", *command]
        self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))

    def pids(self) -> list[int]:
        """Host pids of every task of the pod."""
        found = []
        for folder, _, names in os.walk(self.cgroup):
            if "cgroup.procs" in names:
                with suppress(OSError):
                    found += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
        return found

    def end_processes(self) -> None:
        """Kill every task of the pod and wait until the cgroup is empty."""

        def is_empty() -> bool:
            for pid in self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.pids()

        wait_until(is_empty, "the pod's processes have ended")
        for process in self.processes:
            process.wait(timeout=20)
            if process.stdout:
                process.stdout.close()
        self.processes.clear()

    def remove(self) -> None:
        """End the pod: its processes, then its cgroup."""
        if not self.cgroup.exists():
            return
        self.end_processes()
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            wait_until(lambda path=Path(folder): removed(path), f"cgroup {folder} is gone")  # type: ignore[misc]
        for parent in (self.cgroup.parent, self.cgroup.parent.parent):
            with suppress(OSError):
                parent.rmdir()


def removed(path: Path) -> bool:
    """Remove an empty cgroup; False where the kernel still counts a task that has ended."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def host_actor(family: Family, *, cgroup: Path | None = None) -> Actor:
    """A process of the node, of no pod; in `cgroup` where given, moved there before it executes."""
    argv = family.argv("host")
    if cgroup:
        argv = ["/bin/sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh", *argv]
    return family.launch(argv)
