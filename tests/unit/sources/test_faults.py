"""Folders that vanish and return, queues that overflow, limits that are reached: the last good value goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.model import SecretRef
from agent.sources.file import FileSource
from kernelsecret.errors import Code, Refused
from tests.needs import need, need_program
from tests.unit.sources.helpers import REF, Recorder, drain, put

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
async def seen(source: FileSource, folder: Path) -> Recorder:
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"one")
    return recorder


async def test_a_folder_that_vanishes_is_reported_and_its_return_is_seen(seen: Recorder, folder: Path) -> None:
    shutil.rmtree(folder)
    await seen.failure("no such folder")
    assert seen.versions[-1].values["password"] == b"one"
    folder.mkdir()
    (folder / "username").write_bytes(b"bob")
    await seen.failure("not there since the folder was replaced")
    assert len(seen.versions) == 1, "a new user name is not shown with the old password"
    (folder / "password").write_bytes(b"two")
    assert (await seen.value("password", b"two")).values == {"username": b"bob", "password": b"two"}
    await drain()
    assert seen.log[-1] == "changed"
    await seen.next_version(lambda: put(folder, "password", b"three"))


async def test_a_folder_that_returns_as_it_was_ends_the_failure(seen: Recorder, folder: Path) -> None:
    folder.rename(folder.parent / "away")
    await seen.failure("no such folder")
    version = await seen.next_version(lambda: (folder.parent / "away").rename(folder))
    assert version.values["password"] == b"one"
    assert seen.log[-1] == "changed"


async def test_a_folder_that_is_swapped_for_another_gives_one_version(seen: Recorder, folder: Path) -> None:
    fresh = folder.parent / "fresh"
    fresh.mkdir()
    for name in ("username", "password"):
        (fresh / name).write_bytes(b"new")

    def swap() -> None:
        folder.rename(folder.parent / "old")
        fresh.rename(folder)

    version = await seen.next_version(swap)
    assert set(version.values.values()) == {b"new"}
    put(folder.parent / "old", "password", b"stale")
    await seen.next_version(lambda: put(folder, "password", b"newer"))
    assert seen.versions[-1].values["password"] == b"newer"
    assert not seen.failures


@pytest.mark.parametrize("depth", ["the parent", "the root"])
async def test_a_folder_above_that_vanishes_and_returns_is_seen(
    seen: Recorder, root: Path, folder: Path, depth: str
) -> None:
    above = folder.parent if depth == "the parent" else root
    above.rename(above.with_name("away"))
    await seen.failure("no such folder")
    above.with_name("away").rename(above)
    await seen.until(lambda: seen.log[-1] == "changed")
    await seen.next_version(lambda: put(folder, "password", b"two"))


async def test_a_secret_that_is_not_there_yet_is_seen_when_it_comes(source: FileSource, root: Path) -> None:
    recorder = Recorder()
    source.watch(SecretRef("file", "later/on"), recorder)
    await recorder.failure("no such folder")
    (root / "later" / "on").mkdir(parents=True)
    put(root / "later" / "on", "key", b"here")
    await recorder.value("key", b"here")


async def test_an_overflow_of_the_queue_causes_a_look_at_everything(
    source: FileSource, seen: Recorder, root: Path, folder: Path
) -> None:
    other = root / "payments" / "noise"
    other.mkdir()
    (other / "key").write_bytes(b"0")
    recorder = Recorder()
    source.watch(SecretRef("file", "payments/noise"), recorder)
    await recorder.value("key", b"0")
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for _ in range(queue // 2 + 1):
        os.rename(other / "key", other / "key2")
        os.rename(other / "key2", other / "key")
    # The queue is full, so nothing tells of this one.
    put(folder, "password", b"unannounced")
    await seen.value("password", b"unannounced")


async def test_a_limit_reached_later_is_reported_and_mended_by_itself(seen: Recorder, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    put(folder, "password", b"two")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        await seen.failure("RLIMIT_NOFILE")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await seen.value("password", b"two")


async def test_no_inotify_instance_is_a_refusal(source: FileSource, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(Refused) as caught:
            source.watch(REF, Recorder())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "fs.inotify.max_user_instances" in caught.value.fix
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"one")


LIMITED = """
import asyncio, sys
from pathlib import Path
from kernelsecret.errors import Refused
from agent.model import SecretRef
from agent.sources.file import FileSource
from tests.unit.sources.helpers import Recorder

async def main():
    source = FileSource(Path(sys.argv[1]))
    try:
        source.watch(SecretRef("file", "payments/db"), Recorder())
    except Refused as refused:
        print(refused.code.name, refused)
    await source.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("limit", "value", "setting"),
    [("watches", "1", "fs.inotify.max_user_watches"), ("instances", "0", "fs.inotify.max_user_instances")],
)
def test_a_limit_of_inotify_is_a_refusal_that_names_the_setting(
    root: Path, folder: Path, limit: str, value: str, setting: str
) -> None:
    """In a user namespace, whose limits are its own."""
    unshare = need_program("unshare")
    script = f'echo {value} > /proc/sys/user/max_inotify_{limit} && exec "$@"'
    command: list[str | Path] = [
        unshare,
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-c",
        LIMITED,
        f"{root}",
    ]
    allowed = subprocess.run([unshare, "--user", "--map-root-user", "true"], capture_output=True)
    need(allowed.returncode == 0, "user namespaces")
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30)
    assert done.stdout.startswith("RESOURCE_EXHAUSTED file:payments/db: "), done.stderr
    assert setting in done.stdout


async def test_a_writer_that_comes_while_a_key_is_read_gets_through(seen: Recorder, folder: Path) -> None:
    """Leases make a writer wait for the read, not for the kernel's 45 s; and its signal does not kill the agent."""
    value = b"x" * (1 << 20)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            (folder / "password").write_bytes(value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(20):
            put(folder, "username", b"%d" % number)
            await seen.value("username", b"%d" % number)
    finally:
        stop.set()
        await asyncio.to_thread(writer.join, 10)
    assert not writer.is_alive()
    await seen.value("password", value)
    assert {version.values["password"] for version in seen.versions} == {b"one", value}
    assert not seen.failures
