from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import Refused
from agent.observe.admin import AdminServer
from agent.observe.events import EventHub
from agent.observe.peers import listen_privately, peer_of, private_folder
from tests.needs import need
from tests.unit.observe.conftest import LogLines

NOBODY = 65534
ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(sys.argv[1])
except OSError as problem:
    sys.exit("connect: " + type(problem).__name__)
connection.sendall(b"GET /status HTTP/1.1\\r\\nHost: admin\\r\\nConnection: close\\r\\n\\r\\n")
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


def test_the_peer_is_who_the_kernel_says() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_of(one) == (os.getpid(), os.geteuid(), os.getegid())


def test_a_socket_that_nobody_answers_on_is_replaced(short_folder: Path) -> None:
    path = short_folder / "a.sock"
    listen_privately(path).close()
    assert path.exists()
    with listen_privately(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


HOLD = """
import sys
from pathlib import Path
from agent.observe.peers import listen_privately
listener = listen_privately(Path(sys.argv[1]))
listener.listen()
sys.stdout.write("listening\\n")
sys.stdout.flush()
sys.stdin.read()
"""


def test_the_socket_of_a_killed_process_is_replaced(short_folder: Path) -> None:
    path = short_folder / "a.sock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"listening\n"
            with pytest.raises(Refused, match="another agent answers there"):
                listen_privately(path)
        finally:
            holder.kill()
    listen_privately(path).close()


def test_what_is_no_socket_is_left_alone(short_folder: Path) -> None:
    path = short_folder / "a.sock"
    path.write_text("mine")
    with pytest.raises(Refused, match="is not a socket"):
        listen_privately(path)
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_refused_before_anything_is_made(short_folder: Path) -> None:
    path = short_folder / "sub" / ("a" * 120)
    with pytest.raises(Refused, match="107 bytes"):
        listen_privately(path)
    assert not path.parent.exists()


def test_a_folder_that_others_could_enter_is_closed_and_a_symlink_refused(short_folder: Path) -> None:
    open_folder = short_folder / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    private_folder(open_folder)
    assert stat.S_IMODE(open_folder.stat().st_mode) == 0o700
    (short_folder / "link").symlink_to(open_folder)
    with pytest.raises(Refused, match="not a folder of the agent's own"):
        private_folder(short_folder / "link")


def test_a_folder_of_another_user_is_refused(short_folder: Path) -> None:
    need(os.geteuid() == 0, "root, to give a folder away")
    foreign = short_folder / "foreign"
    foreign.mkdir()
    os.chown(foreign, NOBODY, NOBODY)
    with pytest.raises(Refused, match="not a folder of the agent's own"):
        private_folder(foreign)
