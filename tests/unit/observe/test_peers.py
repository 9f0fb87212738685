from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvloop

from agent.observe.admin import AdminServer
from agent.observe.events import EventHub
from tests.needs import need
from tests.unit.conftest import LogLines

NOBODY = 65534
ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as problem:
    sys.exit("connect: " + type(problem).__name__)
try:
    connection.sendall(b"GET /status HTTP/1.1\\r\\nHost: admin\\r\\nConnection: close\\r\\n\\r\\n")
except BrokenPipeError:
    pass  # refused before a byte was sent: the answer is there to be read
answer = b""
try:
    while chunk := connection.recv(4096):
        answer += chunk
except ConnectionResetError:
    pass
sys.stdout.write(answer.decode())
"""


async def ask(path: Path, uid: int) -> tuple[str, str]:
    """What a process of another user is answered; the system's python, since a private environment may not be in its
    reach.
    """
    process = await asyncio.create_subprocess_exec(
        os.path.realpath("/usr/bin/python3") if uid else sys.executable,
        "-c",
        ASK,
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd="/",
        env={},
    )
    out, problem = await process.communicate()
    return out.decode(), problem.decode()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_root_and_nobody_else_is_answered_on_any_event_loop(
    short_folder: Path, log_lines: LogLines, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def answer(allowed_uid: int) -> bytes:
        path = short_folder / "admin.sock"
        server = AdminServer(path, dict, EventHub(), allowed_uid=allowed_uid)
        await server.start()
        try:
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
                await loop.sock_connect(caller, str(path))
                with suppress(BrokenPipeError):  # refused before a byte was sent
                    await loop.sock_sendall(caller, b"GET /health HTTP/1.1\r\nHost: admin\r\n\r\n")
                return (await loop.sock_recv(caller, 4096)).partition(b"\r\n")[0]
        finally:
            await server.stop()
            assert not path.exists()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(answer(os.geteuid())) == b"HTTP/1.1 200 OK"
        assert runner.run(answer(os.geteuid() + 1)) == b"HTTP/1.1 403 Forbidden"
    assert log_lines.lines[-1]["event"] == "peer refused"


async def test_another_user_is_kept_out_by_the_folder_and_again_by_its_credentials(
    short_folder: Path, log_lines: LogLines
) -> None:
    need(os.geteuid() == 0, "root, to start a process of another user")
    need(Path("/usr/bin/python3").exists(), "the system's python3")
    path = short_folder / "run" / "admin.sock"
    asked: list[int] = []

    def status() -> dict[str, bool]:
        asked.append(1)
        return {"seen": True}

    server = AdminServer(path, status, EventHub())
    await server.start()
    try:
        out, problem = await ask(path, NOBODY)
        assert out == ""
        assert "connect: PermissionError" in problem

        # The doors left open by mistake: the peer's credentials still count.
        for opened in (short_folder, short_folder / "run"):
            opened.chmod(0o755)
        path.chmod(0o666)
        out, problem = await ask(path, NOBODY)
        assert out.startswith("HTTP/1.1 403"), problem
        assert "seen" not in out
        assert asked == []
        assert log_lines.lines[-1]["event"] == "peer refused"
        assert log_lines.lines[-1]["uid"] == NOBODY

        out, problem = await ask(path, 0)
        assert out.startswith("HTTP/1.1 200"), problem
        assert asked == [1]
    finally:
        await server.stop()
