"""What a fetch gives and what it refuses, on a real folder."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

import pytest

from agent.model import SecretRef
from agent.sources.file import FileSource
from agent.sources.keys import MAX_BYTES, MAX_KEYS
from kernelsecret.errors import Code, Refused
from tests.unit.sources.helpers import BOUND_S, REF, lay_out


async def refusal(source: FileSource, ref: SecretRef = REF) -> Refused:
    with pytest.raises(Refused) as caught:
        await source.fetch(ref)
    return caught.value


async def test_all_keys_come_as_one_version(source: FileSource, folder: Path) -> None:
    version = await source.fetch(REF)
    assert version.values == {"username": b"alice", "password": b"one"}
    assert version.changed_ns == 0
    assert version.label.endswith("Z")
    assert "alice" not in repr(version)
    assert not source.holds_old(REF)


async def test_a_kubelet_volume_has_its_keys_and_no_dot_dot_names(source: FileSource, root: Path) -> None:
    lay_out(root / "payments" / "db", "1", {"tls.crt": b"c", "tls.key": b"k"})
    assert (await source.fetch(REF)).values == {"tls.crt": b"c", "tls.key": b"k"}


async def test_hidden_names_and_empty_values_are_keys(source: FileSource, folder: Path) -> None:
    (folder / ".dockerconfigjson").write_bytes(b"")
    assert (await source.fetch(REF)).values[".dockerconfigjson"] == b""


@pytest.mark.parametrize(
    "path", ["", "/etc", "..", "payments/..", "payments//db", "payments/../../etc", "./db", "a\0b"]
)
async def test_a_path_that_is_not_below_the_root_is_refused(source: FileSource, folder: Path, path: str) -> None:
    assert (await refusal(source, SecretRef("file", path))).code is Code.INVALID_ARGUMENT


async def test_another_source_s_secret_is_refused(source: FileSource) -> None:
    assert (await refusal(source, SecretRef("vault", "payments/db"))).code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("path", ["payments/other", "payments/db/username"])
async def test_a_secret_that_is_not_there_is_not_found(source: FileSource, folder: Path, path: str) -> None:
    refused = await refusal(source, SecretRef("file", path))
    assert refused.code is Code.NOT_FOUND
    assert refused.field == f"file:{path}"


async def test_a_folder_without_keys_is_not_found(source: FileSource, root: Path) -> None:
    assert (await refusal(source)).code is Code.NOT_FOUND


async def test_a_link_out_of_the_secret_is_refused(source: FileSource, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"not yours")
    for target in (str(outside), "../../../outside", "../../payments/db/username"):
        (folder / "stolen").unlink(missing_ok=True)
        (folder / "stolen").symlink_to(target)
        refused = await refusal(source)
        assert (refused.code, refused.field) == (Code.FAILED_PRECONDITION, "file:payments/db[stolen]")
        assert "link" in refused.why


async def test_a_data_link_out_of_the_secret_is_refused(source: FileSource, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "key").write_bytes(b"not yours")
    (folder / "..data").symlink_to(tmp_path / "outside")
    (folder / "key").symlink_to("..data/key")
    assert "leads out" in (await refusal(source)).why


async def test_a_folder_that_is_a_link_is_refused(source: FileSource, folder: Path, root: Path, tmp_path: Path) -> None:
    (root / "elsewhere").symlink_to(tmp_path)
    (root / "alias").symlink_to("payments")
    for path in ("elsewhere", "alias/db"):
        assert "symbolic link" in (await refusal(source, SecretRef("file", path))).why


async def test_a_key_of_one_mebibyte_is_taken_and_one_more_byte_is_refused(source: FileSource, folder: Path) -> None:
    (folder / "password").write_bytes(b"x" * MAX_BYTES)
    assert len((await source.fetch(REF)).values["password"]) == MAX_BYTES
    (folder / "password").write_bytes(b"x" * (MAX_BYTES + 1))
    refused = await refusal(source)
    assert refused.field == "file:payments/db[password]"
    assert str(MAX_BYTES) in refused.why


async def test_a_name_that_is_not_utf8_is_refused(source: FileSource, folder: Path) -> None:
    (folder / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    refused = await refusal(source)
    assert "UTF-8" in refused.why
    assert refused.field.isascii()


async def test_a_pipe_is_refused_without_waiting_for_its_writer(source: FileSource, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert "regular file" in (await asyncio.wait_for(refusal(source), BOUND_S)).why


async def test_more_keys_than_a_secret_may_have_are_refused(source: FileSource, folder: Path) -> None:
    for number in range(MAX_KEYS - 2):
        (folder / f"key{number}").write_bytes(b"x")
    assert len((await source.fetch(REF)).values) == MAX_KEYS
    (folder / "onemore").write_bytes(b"x")
    assert str(MAX_KEYS) in (await refusal(source)).why


async def test_a_key_that_is_being_written_is_not_taken(source: FileSource, folder: Path) -> None:
    with (folder / "password").open("r+b") as writer:
        writer.truncate(0)
        writer.write(b"ha")
        writer.flush()
        refused = await refusal(source)
    assert (refused.code, refused.field) == (Code.UNAVAILABLE, "file:payments/db[password]")
    assert (await source.fetch(REF)).values["password"] == b"ha"


async def test_a_fetch_waits_a_little_for_the_writer(source: FileSource, folder: Path) -> None:
    writer = (folder / "password").open("wb")
    fetching = asyncio.create_task(source.fetch(REF))
    await asyncio.sleep(0)
    writer.write(b"whole")
    writer.close()
    assert (await asyncio.wait_for(fetching, BOUND_S)).values["password"] == b"whole"


async def test_no_descriptor_left_is_a_refusal_that_names_the_limit(source: FileSource, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        refused = await refusal(source)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused.code is Code.RESOURCE_EXHAUSTED
    assert "RLIMIT_NOFILE" in refused.why


async def test_nothing_stays_open_after_fetches(source: FileSource, folder: Path) -> None:
    await source.fetch(REF)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        await source.fetch(REF)
        await refusal(source, SecretRef("file", "payments/other"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
