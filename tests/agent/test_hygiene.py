"""The agent keeps what it knows to itself: no core, no swap, no argument, no variable, no line says a value."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from tests.agent.harness import AGENT, HERE, Node
from tests.agent.tree import files_of

OLD, NEW = b"canary-old-2cf24dba5fb0a30e", b"canary-new-8d969eef6ecad3c2"


async def test_no_value_is_said_in_all_the_life_of_a_volume(node: Node) -> None:
    node.env["KERNELSECRET_LOG_LEVEL"] = "debug"
    node.secret("payments/db", {"password": OLD})
    node.interceptor("payments", [files_of("payments/db", "password")])
    node.interceptor("lacking", [files_of("payments/db", "absent")])
    pod, lacking = node.pod("web", "payments"), node.pod("lacking", "lacking")
    await node.started()
    await node.publish(pod)
    assert node.program(pod).read(pod.target / "password") == [OLD]
    await node.refused(lacking)
    node.secret("payments/db", {"password": NEW})
    await node.shows(pod, "password", NEW)
    node.assert_kept(OLD, NEW)
    node.kill()
    await node.started()
    node.secret("payments/db", {"other": NEW + OLD})
    await node.refused(lacking)
    node.assert_kept(OLD, NEW)
    await node.unpublish(pod)
    assert node.stop() == 0
    node.assert_kept(OLD, NEW)


async def test_only_root_can_look_into_the_agents_folders(running: Node) -> None:
    running.secret("payments/db", {"password": OLD})
    running.interceptor("payments", [files_of("payments/db", "password")])
    pod = running.pod("web", "payments")
    await running.publish(pod)
    for folder in (running.run, running.run / "state", running.run / "bpf", running.csi_socket.parent):
        found = folder.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode) & 0o077) == (0, 0), folder
    sockets = [path for path in running.base.rglob("*.sock") if path.is_socket()]
    assert len(sockets) == 3
    for path in (*sockets, *(running.run / "state").iterdir(), running.audit):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    await running.unpublish(pod)


async def test_nobody_but_root_is_answered(running: Node) -> None:
    call = (
        "import asyncio, os, sys; from pathlib import Path; from agent.csi.client import KubeletClient, CallError\n"
        "async def main():\n"
        "    async with KubeletClient(Path(sys.argv[1])) as kubelet:\n"
        "        await kubelet.register()\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: asyncio.run(main())\n"
        "except CallError as error: sys.exit(0 if error.code == 'UNAVAILABLE' else 3)\n"
        "sys.exit(4)\n"
    )
    socket = running.kubelet / "plugins_registry/csi.kernelsecret.io-reg.sock"
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs on this loop
        [sys.executable, "-c", call, str(socket)], cwd=HERE, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_crash_leaves_no_core(node: Node) -> None:
    """Started where cores may be of any size; what is cut off is the agent's own doing."""
    command = f"cd {node.base}; ulimit -c unlimited; exec {sys.executable} -c '{AGENT}' >>{node.log} 2>&1"
    node.pid = os.spawnle(os.P_NOWAIT, "/bin/sh", "sh", "-c", command, node.env | {"PYTHONPATH": str(HERE)})
    while not (node.run / "admin.sock").exists():
        assert os.waitpid(node.pid, os.WNOHANG) == (0, 0), "the agent ended"
    os.kill(node.pid, signal.SIGSEGV)
    _, status = os.waitpid(node.pid, 0)
    node.pid = 0
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
    assert not list(node.base.glob("core*"))


async def test_the_agents_memory_is_locked_and_cannot_be_dumped(running: Node) -> None:
    status = Path(f"/proc/{running.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    assert int(fields["VmLck"].split()[0]) > 10_000
    assert int(fields["VmSwap"].split()[0]) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    limits = Path(f"/proc/{running.pid}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    hardening = running.status()["hardening"]
    assert all(one["achieved"] for one in hardening.values()), hardening
