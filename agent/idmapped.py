"""Whether this node can serve a pod with a user namespace of its own (`hostUsers: false`), found by doing it.

A container's runtime shows volumes to such a pod through idmapped mounts, which each kind of file system has to allow:
a tmpfs does since Linux 6.3, a bpffs does not. So what is served by ordinary files can work there, and `iter` cannot.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.delivery import mounts
from agent.delivery.tmpfs_engine import TmpfsEngine
from agent.model import AccessRule, FilePlan, From, PodRef, SecretRef, SecretVersion, VolumePlan
from agent.probe import ProbeReport
from kernelsecret.errors import KernelSecretError, said

TMPFS, NONE = "tmpfs", "none"
"""Values of the node label: the engine that was seen to serve such a pod."""
FOLDER: Final = "probe-idmapped"
FIRST_ID: Final = 1 << 16
IDS: Final = 1 << 16
"""As kubelet maps them: the pod's ids are as many of the host's, from some number on."""
OWNER, GROUP = 1000, 2000

CANARY = SecretRef("probe", "canary")
# In a process of its own, as one with threads cannot enter a user namespace; it ends with its input.
_IN_NAMESPACE: Final = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(ctypes.get_errno() if libc.unshare(0x10000000) else 0, flush=True)
sys.stdin.read()
"""


class NotIdmapped(KernelSecretError):
    """A volume cannot be shown through an idmapped mount here; the text says why."""


@contextmanager
def user_namespace(first_id: int = FIRST_ID, ids: int = IDS) -> Iterator[int]:
    """A descriptor of a new user namespace, whose root is the host's `first_id`. Raises NotIdmapped or OSError."""
    command = [sys.executable, "-I", "-S", "-c", _IN_NAMESPACE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        try:
            answer = child.stdout.readline().strip()
            if answer != b"0":
                why = errno.errorcode.get(int(answer), "unknown") if answer.isdigit() else "unknown"
                raise NotIdmapped(f"a user namespace cannot be made ({why})")
            try:
                for kind in ("uid_map", "gid_map"):
                    Path(f"/proc/{child.pid}/{kind}").write_text(f"0 {first_id} {ids}\n")
            except PermissionError as error:
                raise NotIdmapped("ids cannot be mapped: the agent lacks CAP_SETUID or CAP_SETGID") from error
            fd = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            child.stdin.close()
    try:
        yield fd
    finally:
        os.close(fd)


def with_idmapped(found: ProbeReport, run_dir: Path) -> ProbeReport:
    """The report with what a canary met that was shown so, in a folder below `run_dir` that is gone afterwards."""
    folder = run_dir / FOLDER
    try:
        _clear(folder)  # of one that died in its probe
        folder.mkdir(parents=True)
        _expect_owners(folder)
    except (OSError, KernelSecretError) as error:
        return replace(found, idmapped=NONE, idmapped_reason=said(error))
    finally:
        with suppress(OSError, KernelSecretError):
            _clear(folder)
    return replace(found, idmapped=TMPFS, idmapped_reason="")


def _expect_owners(folder: Path) -> None:
    volumes, target = folder / "volumes", folder / "target"
    volumes.mkdir()
    target.mkdir()
    canary = secrets.token_bytes(64)
    engine = TmpfsEngine(volumes)
    state = engine.begin(_plan(target), {CANARY: SecretVersion(CANARY, {"canary": canary})})
    try:
        with user_namespace() as namespace:
            tree = mounts.clone_idmapped(target, namespace)
        try:
            fd = os.open("canary.txt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=tree)
            try:
                seen, value = os.fstat(fd), os.read(fd, 100)
            finally:
                os.close(fd)
        finally:
            os.close(tree)
    finally:
        asyncio.run(engine.end(state))
    if value != canary:
        raise NotIdmapped("a canary was read through an idmapped mount, but not what was written")
    if (seen.st_uid, seen.st_gid) != (FIRST_ID + OWNER, FIRST_ID + GROUP):
        raise NotIdmapped(f"a canary of {OWNER}:{GROUP} has the owners {seen.st_uid}:{seen.st_gid} there")


def _plan(target: Path) -> VolumePlan:
    return VolumePlan(
        volume_id=FOLDER,
        target_path=target,
        pod=PodRef("kernelsecret", "probe", "probe", "probe"),
        interceptor="probe",
        files=(FilePlan("canary.txt", CANARY, "canary", 0o440),),
        access=AccessRule(From.ANY),
        allow_unenforced=True,
        uses_sub_path=False,
        owner_uid=OWNER,
        fs_group=GROUP,
    )


def _clear(folder: Path) -> None:
    for point in mounts.mounts_below(folder, mounts.read_mounts()):
        mounts.unmount(point)
    if folder.exists():
        shutil.rmtree(folder)
