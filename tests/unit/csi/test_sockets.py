"""Who can talk to the agent, and what is done with sockets that dead and living agents left."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from agent.csi.client import CallError, KubeletClient
from agent.csi.wire import csi_pb2
from kernelsecret.errors import Refused
from kernelsecret.names import DRIVER_NAME
from tests.needs import need, need_program
from tests.unit.csi.door import VOLUME_ID, Door, make_door, make_kubelet_folder, message, open_door

ME = os.geteuid()
NOBODY = 65534

# Says "refused" where the kernel forbids to connect, "cut" where the agent hangs up without a byte.
KNOCK = """
import os, socket, sys
if sys.argv[2] != "keep":
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except PermissionError:
    sys.exit("refused")
try:
    s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    sys.exit("heard" if s.recv(1) else "cut")
except (BrokenPipeError, ConnectionResetError):
    sys.exit("cut")
"""


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A kubelet root that every user can reach, as /var/lib is (pytest's own folders are private)."""
    root = Path(tempfile.mkdtemp(prefix="kubelet-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


async def knock(path: Path, uid: int | str, *before: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, "-c", KNOCK, str(path), str(uid), stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    return told.decode().strip()


async def node_id(client: KubeletClient) -> None:
    await client.call("/csi.v1.Node/NodeGetInfo", csi_pb2.NodeGetInfoRequest(), csi_pb2.NodeGetInfoResponse)


async def test_sockets_are_0600_in_0700_folders_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with open_door(tmp_path, allowed_uid=ME) as door:
            for path in (door.at.csi_socket, door.at.registration_socket):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(door.at.csi_socket.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(door.at.registration_socket.parent.stat().st_mode) == 0o750
            assert sorted(path.name for path in door.at.csi_socket.parent.iterdir()) == [".lock", "csi.sock"]
    finally:
        os.umask(before)
    assert not door.at.csi_socket.exists()
    assert not door.at.registration_socket.exists()


async def test_a_peer_of_another_user_is_cut_off_before_a_byte_is_read(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME + 1) as door:
        for path in (door.at.csi_socket, door.at.registration_socket):
            assert await knock(path, "keep") == "cut"
        assert any(f"'peer_uid': {ME}" in line for line in door.log.lines)
        async with door.client() as client:
            with pytest.raises(CallError, match="UNAVAILABLE"):
                await node_id(client)


async def test_root_is_heard(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME) as door:
        assert await knock(door.at.csi_socket, "keep") == "heard"


async def test_another_user_is_stopped_by_the_folder_then_by_the_socket_then_by_its_credentials(
    open_root: Path,
) -> None:
    need(ME == 0, "root, to become another user")
    async with open_door(open_root) as door:
        path = door.at.csi_socket
        assert await knock(path, NOBODY) == "refused"
        path.parent.chmod(0o711)
        assert await knock(path, NOBODY) == "refused"
        path.chmod(0o666)
        assert await knock(path, NOBODY) == "cut"
        assert any(f"'peer_uid': {NOBODY}" in line for line in door.log.lines)
        assert await knock(path, 0) == "heard"


async def test_a_capability_that_overrides_file_modes_does_not_help_another_user(open_root: Path) -> None:
    need(ME == 0, "root, to become another user")
    become = [str(need_program("setpriv")), f"--reuid={NOBODY}", "--clear-groups"]
    become += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    async with open_door(open_root) as door:
        assert await knock(door.at.csi_socket, "keep", *become) == "cut"
        assert await knock(door.at.registration_socket, "keep", *become) == "cut"


async def test_grpcs_own_socket_has_no_name_left(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME):
        names = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()]
        inner = [name for name in names if ".inner-" in name]
        assert inner
        assert not any(Path(name).exists() for name in inner)
        assert not list(tmp_path.rglob(".inner-*"))


@pytest.mark.parametrize("authority", ["/var/lib/kubelet/plugins/csi.sock", "%2Fvar%2Flib%2Fkubelet", "localhost"])
async def test_whatever_an_old_kubelet_sends_as_authority_is_taken(tmp_path: Path, authority: str) -> None:
    async with (
        open_door(tmp_path, allowed_uid=ME) as door,
        KubeletClient(door.at.csi_socket, options=[("grpc.default_authority", authority)]) as client,
    ):
        await node_id(client)


async def test_kubelet_registers_the_plugin_and_finds_its_endpoint(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME) as door, KubeletClient(door.at.registration_socket) as client:
        before = door.registration.registered
        info = await client.register()
        assert (info.type, info.name, list(info.supported_versions)) == ("CSIPlugin", DRIVER_NAME, ["1.0.0"])
        assert info.endpoint == str(door.at.csi_socket)
        assert (before, door.registration.registered) == (None, True)
        with pytest.raises(CallError, match="UNIMPLEMENTED"):
            await node_id(client)


async def test_the_socket_of_a_killed_agent_is_replaced(tmp_path: Path) -> None:
    door = make_door(tmp_path, allowed_uid=ME)
    for path in (door.at.csi_socket, door.at.registration_socket):
        path.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    (door.at.csi_socket.parent / ".inner-0").touch()
    async with open_door(tmp_path, allowed_uid=ME) as opened, opened.client() as client:
        await node_id(client)
        assert not (door.at.csi_socket.parent / ".inner-0").exists()


async def test_a_live_agent_is_not_pushed_aside(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME) as first:
        second = make_door(tmp_path, allowed_uid=ME)
        with pytest.raises(Refused, match="held by another agent"):
            await second.server.start()
        async with first.client() as client:
            await node_id(client)


@pytest.mark.parametrize("which", ["csi_socket", "registration_socket"])
async def test_a_live_socket_of_someone_else_is_an_error_and_nothing_stays_open(tmp_path: Path, which: str) -> None:
    door = make_door(tmp_path, allowed_uid=ME)
    taken: Path = getattr(door.at, which)
    taken.parent.mkdir(parents=True, mode=0o750)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(taken))
        other.listen()
        with pytest.raises(Refused, match="a live process listens there"):
            await door.server.start()
        assert taken.exists()
    left = {door.at.csi_socket, door.at.registration_socket} - {taken}
    assert not any(path.exists() for path in left)
    async with open_door(tmp_path, allowed_uid=ME):
        pass


async def test_an_agent_serves_again_after_a_stop_and_leaves_no_descriptor(tmp_path: Path) -> None:
    make_kubelet_folder(tmp_path)

    async def round_of_life() -> None:
        async with open_door(tmp_path, allowed_uid=ME) as door, door.client() as client:
            await client.publish(message(tmp_path))
            await client.unpublish(VOLUME_ID, door.target)

    def unix_sockets_open() -> int:
        links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(str(tmp_path) in link for link in links)

    for _ in range(3):
        await round_of_life()
    assert unix_sockets_open() == 0


def test_the_door_opens_on_uvloop_as_well(tmp_path: Path) -> None:
    make_kubelet_folder(tmp_path)

    async def life() -> list[tuple[str, str]]:
        async with open_door(tmp_path, allowed_uid=ME) as door, door.client() as client:
            await client.publish(message(tmp_path))
            await client.unpublish(VOLUME_ID, door.target)
            return door.observed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(life()) == [("publish", "OK"), ("unpublish", "OK")]


async def test_many_connections_at_once_are_all_served(tmp_path: Path) -> None:
    async def one(door: Door) -> None:
        async with door.client() as client:
            await node_id(client)

    async with open_door(tmp_path, allowed_uid=ME) as door:
        await asyncio.gather(*(one(door) for _ in range(100)))


async def test_a_process_without_descriptors_left_accepts_again_when_it_has_some(tmp_path: Path) -> None:
    async with open_door(tmp_path, allowed_uid=ME) as door:
        loop = asyncio.get_running_loop()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
            lowest_free = os.dup(caller.fileno())
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                caller.connect(str(door.at.csi_socket))
                while not any("EMFILE" in line for line in door.log.lines):  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await loop.sock_sendall(caller, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            assert await loop.sock_recv(caller, 1)
