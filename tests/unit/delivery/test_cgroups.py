"""Where kubelet puts a pod, for each cgroup driver and quality of service; plain folders stand for the hierarchy."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.delivery.cgroups import candidates, cgroup_id, find_pod, tasks_below

UID = "0d5fb5a7-3a43-4c17-8e3c-b0a6c4de9d2f"
UNDERSCORED = UID.replace("-", "_")
PLACES = [
    f"kubepods/pod{UID}",
    f"kubepods/burstable/pod{UID}",
    f"kubepods/besteffort/pod{UID}",
    f"kubepods.slice/kubepods-pod{UNDERSCORED}.slice",
    f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice",
    f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice",
]


def test_these_are_all_the_places() -> None:
    assert list(candidates(UID)) == PLACES


@pytest.mark.parametrize("place", PLACES)
def test_a_pod_is_found_wherever_kubelet_puts_it(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True)
    assert find_pod(tmp_path, UID) == tmp_path / place


def test_another_pods_cgroup_is_not_it(tmp_path: Path) -> None:
    (tmp_path / PLACES[1].replace("0d5fb5a7", "1d5fb5a7")).mkdir(parents=True)
    (tmp_path / PLACES[1]).parent.joinpath(f"pod{UID}x").mkdir()
    assert find_pod(tmp_path, UID) is None


def test_a_file_is_no_cgroup(tmp_path: Path) -> None:
    (tmp_path / "kubepods").mkdir()
    (tmp_path / PLACES[0]).touch()
    assert find_pod(tmp_path, UID) is None


def test_tasks_are_those_of_every_cgroup_below(tmp_path: Path) -> None:
    for place, pids in ((".", "1\n"), ("app", "20\n21\n"), ("app/deeper", "30\n"), ("empty", "")):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "cgroup.procs").write_text(pids)
    (tmp_path / "no-cgroup").mkdir()
    assert sorted(tasks_below(tmp_path)) == [1, 20, 21, 30]


def test_the_tasks_of_what_has_vanished_are_none(tmp_path: Path) -> None:
    assert list(tasks_below(tmp_path / "gone")) == []


def test_the_id_of_a_cgroup_is_its_inode(tmp_path: Path) -> None:
    assert cgroup_id(tmp_path) == tmp_path.stat().st_ino
