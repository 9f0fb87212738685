"""The target folder is made where kubelet wants it, and nowhere that a symlink leads to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.csi.paths import KubeletTargets
from kernelsecret.errors import Code, Refused
from tests.unit.csi.door import make_kubelet_folder


def refusal(targets: KubeletTargets, target: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        targets.ensure(target)
    assert caught.value.field == "target_path"
    return caught.value


def test_the_folder_is_made_once_and_removed_once(tmp_path: Path) -> None:
    target, targets = make_kubelet_folder(tmp_path), KubeletTargets(tmp_path)
    assert targets.ensure(target) is True
    assert stat.S_IMODE(target.stat().st_mode) & ~0o750 == 0
    assert targets.ensure(target) is False
    targets.remove(target)
    assert not target.exists()
    targets.remove(target)


def test_kubelets_own_folder_is_not_made_for_it(tmp_path: Path) -> None:
    target = make_kubelet_folder(tmp_path)
    target.parent.rmdir()
    targets = KubeletTargets(tmp_path)
    assert refusal(targets, target).code is Code.FAILED_PRECONDITION
    targets.check(target)
    targets.remove(target)


@pytest.mark.parametrize("level", range(5))
def test_a_symlink_at_any_component_is_refused_and_nothing_is_made_behind_it(tmp_path: Path, level: int) -> None:
    root, elsewhere = tmp_path / "kubelet", tmp_path / "elsewhere"
    target = make_kubelet_folder(root)
    component = [target, *target.parents][level]
    if component != target:
        component.rename(elsewhere)
    else:
        elsewhere.mkdir()
    component.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    targets = KubeletTargets(root)
    assert refusal(targets, target).code is Code.INVALID_ARGUMENT
    with pytest.raises(Refused):
        targets.check(target)
    with pytest.raises(Refused):
        targets.remove(target)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    target = make_kubelet_folder(tmp_path)
    target.write_text("")
    assert refusal(KubeletTargets(tmp_path), target).code is Code.INVALID_ARGUMENT


def test_a_folder_that_everybody_can_write_in_is_refused(tmp_path: Path) -> None:
    target = make_kubelet_folder(tmp_path)
    target.parent.chmod(0o777)
    assert "every user" in str(refusal(KubeletTargets(tmp_path), target))


def test_the_kubelet_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    make_kubelet_folder(tmp_path / "data")
    root = tmp_path / "kubelet"
    root.symlink_to(tmp_path / "data")
    target = root / make_kubelet_folder(tmp_path / "data", "more").relative_to(tmp_path / "data")
    assert KubeletTargets(root).ensure(target) is True


def test_what_is_not_empty_is_kept_and_said(tmp_path: Path) -> None:
    target, targets = make_kubelet_folder(tmp_path), KubeletTargets(tmp_path)
    targets.ensure(target)
    (target / "file").write_text("")
    with pytest.raises(Refused, match="not empty"):
        targets.remove(target)
    assert (target / "file").exists()


def test_a_folder_swapped_after_the_check_does_not_move_what_is_held(tmp_path: Path) -> None:
    target, targets = make_kubelet_folder(tmp_path), KubeletTargets(tmp_path)
    targets.ensure(target)
    evil = tmp_path / "evil"
    (evil / "mount").mkdir(parents=True)
    with targets.opened(target) as held:
        assert held is not None
        true_inode = target.stat().st_ino
        target.parent.rename(tmp_path / "aside")
        target.parent.symlink_to(evil)
        assert Path(held.path).stat().st_ino == true_inode
        fd = held.open()
        assert os.fstat(fd).st_ino == true_inode
        os.close(fd)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    target, targets = make_kubelet_folder(tmp_path), KubeletTargets(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    targets.ensure(target)
    targets.check(target)
    targets.remove(target)
    target.parent.rename(tmp_path / "aside")
    target.parent.symlink_to(tmp_path / "aside")
    refusal(targets, target)
    target.parent.unlink()
    refusal(targets, target)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
