"""A pod in mode `vault-agent` as kubelet and a container runtime would run it, without either: the patched pod's own
containers, with their commands, users, mounts and read-only root, each in a mount namespace of its own.

The image is this machine. Needs root.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kernelsecret.names import CONTAINER_VAULT_AGENT, CONTAINER_VAULT_AGENT_INIT, VOLUME_NAME, VOLUME_VAULT_AGENT
from tests.apiserver.harness.processes import Process
from tests.apiserver.harness.waiting import until
from tests.vault.harness.programs import vault_program

_BIN: Final = "/run/image"
_GROUPS: Final = "supplementalGroups"
# Arguments: pairs of source and mount point, `--`, user, group, groups, `--`, the command.
_START: Final = f"""
set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p {_BIN}
touch {_BIN}/vault
while [ "$1" != -- ]; do
  if [ -d "$2" ]; then mkdir -p "$3"; else mkdir -p "${{3%/*}}"; touch "$3"; fi
  mount --bind "$2" "$3"
  mount -o "remount,bind,$1,nosuid,nodev" "$3"
  shift 3
done
shift
mount -o remount,bind,ro /
mount -o remount,ro /run
if [ "$1" = proc ]; then mount -t proc proc /proc; fi
user=$2 group=$3 groups=$4
shift 5
exec setpriv --reuid "$user" --regid "$group" --groups "$groups" --no-new-privs --bounding-set=-all --inh-caps=-all \
  -- "$@"
"""


class AgentPod:
    """`pod` is patched already. Its volumes are folders: `files` is what the application sees."""

    def __init__(self, folder: Path, pod: Mapping[str, Any], token: str) -> None:
        self.folder = folder
        self.pod = pod
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        security = pod["spec"].get("securityContext") or {}
        self._groups = [*security.get(_GROUPS, ()), *([security["fsGroup"]] if "fsGroup" in security else ())]
        if "fsGroup" in security:
            os.chown(self.files, -1, security["fsGroup"])
        self.files.chmod(0o2777 if "fsGroup" in security else 0o777)
        self._own = folder / "own"
        self._project(token)
        self._processes: list[Process] = []
        self._pid_namespace: int | None = None

    # As kubelet

    def _project(self, token: str) -> None:
        """The projected volume, with the links by which kubelet changes it as a whole."""
        volume = next(one for one in self.pod["spec"]["volumes"] if one["name"] == VOLUME_VAULT_AGENT)["projected"]
        data = self._own / "..data"
        data.mkdir(parents=True)
        for source in volume["sources"]:
            for item in source.get("downwardAPI", {}).get("items", ()):
                name = item["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
                (data / item["path"]).write_text(self.pod["metadata"]["annotations"][name])
            if "serviceAccountToken" in source:
                (data / source["serviceAccountToken"]["path"]).write_text(token)
        for file in data.iterdir():
            file.chmod(volume["defaultMode"])
            (self._own / file.name).symlink_to(f"..data/{file.name}")

    def container(self, name: str) -> dict[str, Any]:
        """A container of the pod."""
        spec = self.pod["spec"]
        found: dict[str, Any] = next(
            one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == name
        )
        return found

    # As the runtime

    def init(self, within_s: float = 30.0) -> Process:
        """Run the init container to its end."""
        process = self.start(CONTAINER_VAULT_AGENT_INIT)
        process.wait(within_s)
        return process

    def sidecar(self) -> Process:
        """Start the sidecar."""
        return self.start(CONTAINER_VAULT_AGENT)

    def start(self, name: str, command: Sequence[str] = ()) -> Process:
        """Start a container, with another command where one is given."""
        container = self.container(name)
        of_pod, own = self.pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
        user = own.get("runAsUser", of_pod.get("runAsUser", 0))
        group = own.get("runAsGroup", of_pod.get("runAsGroup", 0))
        program = vault_program()
        assert program is not None
        mounts = ["ro", str(program), f"{_BIN}/vault"]
        folders = {VOLUME_NAME: self.files, VOLUME_VAULT_AGENT: self._own}
        for mount in container.get("volumeMounts", ()):
            if mount["name"] in folders:
                mounts += ["ro" if mount.get("readOnly") else "rw", str(folders[mount["name"]]), mount["mountPath"]]
        proc = "proc" if self._pid_namespace else "same"
        groups = ",".join(map(str, [group, *self._groups]))
        enter = ["nsenter", f"--pid=/proc/{self._pid_namespace}/ns/pid"] if self._pid_namespace else []
        words: list[str | Path] = [*enter, "unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c"]
        words += [_START, "sh", *mounts, "--", proc, str(user), str(group), groups, "--"]
        words += command or container["command"]
        environment = {"PATH": f"{_BIN}:/usr/bin:/bin"}
        environment |= {one["name"]: one["value"] for one in container.get("env", ())}
        process = Process(words, self.folder / f"{name}.log", environment, own_group=True)
        self._processes.append(process)
        return process

    def share_processes(self) -> None:
        """Give the pod one namespace of processes, held by its pause container. Before any other start."""
        words = ["unshare", "--pid", "--fork", "--kill-child", "sleep", "600"]
        pause = Process(words, self.folder / "pause.log", own_group=True)
        self._processes.append(pause)
        until(lambda: children(pause.pid), "the pod's pause container runs", explain=pause.tail)
        self._pid_namespace = children(pause.pid)[0]

    def pid(self, process: Process) -> int:
        """The process id, on this machine, of a container's first process."""
        return until(lambda: children(process.pid), "it has begun")[0] if self._pid_namespace else process.pid

    def shows(self, name: str) -> bytes | None:
        """A file's bytes, None where it is not there."""
        try:
            return (self.files / name).read_bytes()
        except FileNotFoundError:
            return None

    def wait_for(self, name: str, wanted: bytes, within_s: float = 30.0) -> None:
        """Wait until a file has these bytes."""
        tails = "\n".join(process.tail() for process in self._processes[-1:])
        until(
            lambda: self.shows(name) == wanted, f"{name} shows {wanted!r}", deadline_s=within_s, explain=lambda: tails
        )

    def close(self) -> None:
        """End all that runs; with the first process of a namespace all others of it end."""
        if self._pid_namespace:
            os.kill(self._pid_namespace, signal.SIGKILL)
        for process in reversed(self._processes):
            process.stop()


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
