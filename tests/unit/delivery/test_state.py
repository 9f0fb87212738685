"""State files: what is written is what a later agent reads, whole or not at all, and for nobody else."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.delivery.state import Phase, StateFiles, VolumeState, volume_name
from agent.model import EngineName
from kernelsecret.errors import KernelSecretError, Refused
from kernelsecret.interceptor import Mode
from tests.unit.delivery.plans import STATES, plan

STATE = VolumeState(plan(), EngineName.ITER, Phase.PUBLISHED)


@given(STATES)
def test_every_state_comes_back_as_it_was(state: VolumeState) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = StateFiles(Path(folder))
        files.save(state)
        assert files.load() == [state]


def test_a_later_state_replaces_an_earlier_one(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    for phase in Phase:
        files.save(VolumeState(plan(), EngineName.ITER, phase))
        assert [state.phase for state in files.load()] == [phase]


def test_each_volume_has_its_own_file_and_removing_is_idempotent(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    other = VolumeState(plan("csi-2"), EngineName.TMPFS, Phase.PUBLISHED)
    files.save(STATE)
    files.save(other)
    files.remove(STATE.name)
    files.remove(STATE.name)
    assert files.load() == [other]


def test_folder_and_files_are_the_agents_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    StateFiles(folder).save(STATE)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    StateFiles(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path: Path) -> None:
    files = StateFiles(tmp_path / "state")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "state" / f"{STATE.name}.new").symlink_to(victim)
    with pytest.raises(Refused, match="cannot be written"):
        files.save(STATE)
    assert victim.read_text() == "kept"


def test_what_a_crash_left_half_written_is_cleared_and_what_it_replaced_stays(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.save(STATE)
    (tmp_path / f"{STATE.name}.new").write_text('{"plan": {"vol')
    assert files.load() == [STATE]
    assert [path.name for path in tmp_path.iterdir()] == [f"{STATE.name}.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"plan": null}', b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(KernelSecretError, match=r"broken\.json: cannot be read .*; remove the node's volumes"):
        StateFiles(tmp_path).load()


def test_a_state_names_secrets_and_holds_no_value_and_no_digest(tmp_path: Path) -> None:
    StateFiles(tmp_path).save(STATE)
    kept = json.loads((tmp_path / f"{STATE.name}.json").read_text())
    assert set(kept) == {"plan", "engine", "phase", "kernel", "ended", "format"}
    assert {"values", "digest", "tokens"}.isdisjoint(words_of(kept))


def test_a_volume_of_an_agent_that_knew_one_mode_only_is_of_that_mode(tmp_path: Path) -> None:
    files, path = StateFiles(tmp_path), tmp_path / f"{STATE.name}.json"
    files.save(STATE)
    kept = json.loads(path.read_text())
    del kept["plan"]["mode"]
    path.write_text(json.dumps(kept))
    assert files.load() == [STATE]
    assert STATE.plan.mode is Mode.EBPF


def words_of(value: object) -> set[str]:
    """Every key in a document."""
    if isinstance(value, dict):
        return set(value) | {word for inner in value.values() for word in words_of(inner)}
    if isinstance(value, list):
        return {word for inner in value for word in words_of(inner)}
    return set()


@given(st.text(), st.text())
def test_a_volumes_name_is_a_plain_one_and_its_own(one: str, other: str) -> None:
    name = volume_name(one)
    assert name.isalnum()
    assert (name == volume_name(other)) is (one == other)
