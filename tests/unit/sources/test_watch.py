"""What observers hear of changes, with real inotify. Every wait is for news and bounded."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

import pytest

from agent.model import SecretRef, SecretVersion
from agent.sources.candidates import SETTLE_S
from agent.sources.file import FileSource
from agent.sources.keys import MAX_BYTES
from kernelsecret.errors import Refused
from tests.unit.sources.helpers import REF, Recorder, drain, lay_out, put


@pytest.fixture
async def seen(source: FileSource, folder: Path) -> Recorder:
    """An observer of `payments/db` that has heard how things stood at the start."""
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"one")
    return recorder


async def test_watching_begins_with_the_state_so_that_nothing_since_the_fetch_is_lost(
    source: FileSource, folder: Path
) -> None:
    await source.fetch(REF)
    put(folder, "password", b"between")
    recorder = Recorder()
    source.watch(REF, recorder)
    version = await recorder.value("password", b"between")
    assert version.changed_ns == 0


async def test_an_atomic_rename_gives_one_complete_version(seen: Recorder, folder: Path) -> None:
    before = time.monotonic_ns()
    version = await seen.next_version(lambda: put(folder, "password", b"two"))
    assert version.values == {"username": b"alice", "password": b"two"}
    assert before <= version.changed_ns <= time.monotonic_ns()
    await drain()
    assert len(seen.versions) == 2


async def test_a_value_written_in_place_is_seen_when_it_is_closed_and_never_before(
    seen: Recorder, folder: Path
) -> None:
    with (folder / "password").open("wb") as writer:
        for piece in (b"half", b" and ", b"half"):
            writer.write(piece)
            writer.flush()
            await drain()
        # Something else changes meanwhile: the key that is open keeps its last good value.
        put(folder, "username", b"bob")
        version = await seen.value("username", b"bob")
        assert version.values["password"] == b"one"
    await seen.value("password", b"half and half")
    assert {version.values["password"] for version in seen.versions} == {b"one", b"half and half"}


async def test_a_file_renamed_while_its_writer_still_writes_waits_for_the_close(seen: Recorder, folder: Path) -> None:
    with (folder / "new").open("wb") as writer:
        writer.write(b"half")
        writer.flush()
        (folder / "new").rename(folder / "password")
        await drain()
        writer.write(b" and half")
    await seen.value("password", b"half and half")
    assert b"half" not in {version.values["password"] for version in seen.versions}


async def test_a_hard_link_in_place_of_the_key_is_seen(seen: Recorder, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ready").write_bytes(b"linked")
    (folder / "password").unlink()
    (folder / "password").hardlink_to(tmp_path / "ready")
    await seen.value("password", b"linked")


async def test_a_burst_of_writes_ends_with_the_last_value(seen: Recorder, folder: Path) -> None:
    for number in range(1000):
        put(folder, "password", b"%d" % number)
    await seen.value("password", b"999")
    numbers = [int(version.values["password"]) for version in seen.versions[1:]]
    assert numbers == sorted(numbers)


async def test_a_value_that_becomes_empty_is_refused_and_the_last_good_one_stays(
    source: FileSource, seen: Recorder, folder: Path
) -> None:
    (folder / "password").write_bytes(b"")
    assert await seen.failure("became empty") == "key 'password': became empty"
    with pytest.raises(Refused) as caught:
        await source.fetch(REF)
    assert (caught.value.field, caught.value.why) == ("file:payments/db[password]", "became empty")
    version = await seen.next_version(lambda: put(folder, "username", b"bob"))
    assert version.values == {"username": b"bob", "password": b"one"}
    put(folder, "password", b"two")
    await seen.value("password", b"two")
    await drain()
    assert seen.log[-1] == "changed"


async def test_a_key_that_was_empty_at_first_may_be_empty(source: FileSource, folder: Path) -> None:
    (folder / "password").write_bytes(b"")
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"")
    put(folder, "username", b"bob")
    await recorder.value("username", b"bob")
    assert not recorder.failures


async def test_a_removed_key_is_reported_and_keeps_its_last_value(seen: Recorder, folder: Path) -> None:
    (folder / "password").unlink()
    assert await seen.failure("removed") == "key 'password': removed"
    version = await seen.next_version(lambda: put(folder, "username", b"bob"))
    assert version.values["password"] == b"one"
    # The same value again is news all the same: it ends the failure.
    version = await seen.next_version(lambda: put(folder, "password", b"one"))
    assert seen.log[-1] == "changed"


@pytest.mark.parametrize("spoil", ["too large", "a link out", "a folder"])
async def test_a_key_that_can_no_longer_be_one_keeps_its_last_value(seen: Recorder, folder: Path, spoil: str) -> None:
    if spoil == "too large":
        put(folder, "password", b"x" * (MAX_BYTES + 1))
        await seen.failure(str(MAX_BYTES))
    elif spoil == "a link out":
        (folder / ".new").symlink_to("/etc/hostname")
        (folder / ".new").rename(folder / "password")
        await seen.failure("leads out")
    else:
        (folder / "password").unlink()
        (folder / "password").mkdir()
        await seen.failure("password")
    version = await seen.next_version(lambda: put(folder, "username", b"bob"))
    assert version.values["password"] == b"one"


async def test_a_name_that_is_not_utf8_harms_no_other_key(seen: Recorder, folder: Path) -> None:
    (folder / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    assert (await seen.failure("UTF-8")).isascii()
    version = await seen.next_version(lambda: put(folder, "username", b"bob"))
    assert set(version.values) == {"username", "password"}
    (folder / os.fsdecode(b"bad\xff")).unlink()
    await seen.until(lambda: seen.log[-2:] == ["failed", "changed"])


async def test_a_new_key_joins_and_a_writer_s_temporary_file_does_not(seen: Recorder, folder: Path) -> None:
    put(folder, "token", b"t")
    version = await seen.value("token", b"t")
    assert set(version.values) == {"username", "password", "token"}
    assert len(seen.versions) == 2


async def test_a_writer_that_never_rests_makes_no_key_of_its_temporary_file(seen: Recorder, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + 4 * SETTLE_S
    number = 0
    while loop.time() < until:
        number += 1
        (folder / ".new").write_bytes(b"%d" % number)
        await drain()
        (folder / ".new").rename(folder / "password")
        await drain()
    await seen.value("password", b"%d" % number)
    assert not seen.failures
    assert all(set(version.values) == {"username", "password"} for version in seen.versions)


async def test_a_temporary_file_found_at_the_start_is_forgotten_at_its_rename(source: FileSource, folder: Path) -> None:
    (folder / ".new").write_bytes(b"two")
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"one")
    (folder / ".new").rename(folder / "password")
    version = await recorder.value("password", b"two")
    await drain()
    assert not recorder.failures
    version = await recorder.next_version(lambda: put(folder, "username", b"bob"))
    assert set(version.values) == {"username", "password"}


async def test_two_secrets_with_one_parent_do_not_hear_of_each_other(source: FileSource, root: Path) -> None:
    recorders = {}
    for name in ("db", "queue"):
        (root / "payments" / name).mkdir(exist_ok=True)
        (root / "payments" / name / "key").write_bytes(b"0")
        recorders[name] = Recorder()
        source.watch(SecretRef("file", f"payments/{name}"), recorders[name])
    for name, recorder in recorders.items():
        await recorder.value("key", b"0")
        put(root / "payments" / name, "key", name.encode())
        await recorder.value("key", name.encode())
    shutil.rmtree(root / "payments" / "db")
    await recorders["db"].failure("no such folder")
    await recorders["queue"].next_version(lambda: put(root / "payments" / "queue", "key", b"2"))
    assert not recorders["queue"].failures


async def test_all_observers_of_a_secret_hear_and_one_that_left_does_not(
    source: FileSource, seen: Recorder, folder: Path
) -> None:
    other, gone = Recorder(), Recorder()
    source.watch(REF, other)
    cancel = source.watch(REF, gone)
    cancel()
    cancel()
    await seen.next_version(lambda: put(folder, "password", b"two"))
    await other.value("password", b"two")
    assert not gone.log


async def test_an_observer_that_raises_harms_no_other(source: FileSource, folder: Path) -> None:
    class Broken(Recorder):
        def changed(self, version: SecretVersion) -> None:
            raise RuntimeError("broken")

    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    source.watch(REF, Broken())
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("password", b"one")
    assert heard
    assert b"one".decode() not in repr(heard)


async def test_nothing_is_left_when_nobody_watches(source: FileSource, folder: Path) -> None:
    def open_files() -> set[str]:
        return {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}

    cancel = source.watch(REF, Recorder())
    assert any("inotify" in name for name in open_files())
    cancel()
    assert not any("inotify" in name for name in open_files())


async def test_a_swap_of_data_gives_exactly_one_version(source: FileSource, root: Path) -> None:
    own = root / "payments" / "db"
    lay_out(own, "1", {"username": b"u1", "password": b"p1"})
    recorder = Recorder()
    source.watch(REF, recorder)
    await recorder.value("username", b"u1")
    for number in range(2, 12):
        values = {"username": b"u%d" % number, "password": b"p%d" % number}
        version = await recorder.next_version(lambda n=number, v=values: lay_out(own, str(n), v))  # type: ignore[misc]
        assert version.values == values
        await drain()
        assert len(recorder.versions) == number
    assert not recorder.failures


async def test_swaps_in_quick_succession_never_mix_generations(source: FileSource, root: Path) -> None:
    own = root / "payments" / "db"
    lay_out(own, "0", {"username": b"0", "password": b"0"})
    recorder = Recorder()
    source.watch(REF, recorder)
    for number in range(1, 200):
        lay_out(own, str(number), {"username": b"%d" % number, "password": b"%d" % number})
        if number % 7 == 0:
            await drain()
    await recorder.value("username", b"199")
    assert all(version.values["username"] == version.values["password"] for version in recorder.versions)
