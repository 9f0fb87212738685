"""What mountinfo says, on lines as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.delivery.mounts import Mount, find_mount, mounts_below, parse_mountinfo, read_mounts, unescape

CAPTURED = r"""24 30 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
611 30 0:57 / /run/kernelsecret rw,nosuid,nodev,relatime - tmpfs tmpfs rw,size=9872k
612 611 0:58 / /run/kernelsecret/volumes/1f00 rw,nosuid,nodev,noexec,relatime - tmpfs kernelsecret rw,size=256k
613 612 0:61 /files /run/kernelsecret/volumes/1f00/.kernelsecret rw,nosuid,nodev,noexec - bpf kernelsecret rw
700 30 259:1 /var/lib /var/lib/with\040space\011and\134more rw shared:1 master:2 - ext4 /dev/nvme0n1p1 rw
701 30 8:300 / /odd rw - xfs /dev/sdz rw
"""


def test_captured_lines_are_read_with_and_without_optional_fields() -> None:
    assert parse_mountinfo(CAPTURED) == [
        Mount(24, "/proc", "proc", 22, "proc"),
        Mount(611, "/run/kernelsecret", "tmpfs", 57, "tmpfs"),
        Mount(612, "/run/kernelsecret/volumes/1f00", "tmpfs", 58, "kernelsecret"),
        Mount(613, "/run/kernelsecret/volumes/1f00/.kernelsecret", "bpf", 61, "kernelsecret", "/files"),
        Mount(700, "/var/lib/with space\tand\\more", "ext4", 259 << 20 | 1, "/dev/nvme0n1p1", "/var/lib"),
        Mount(701, "/odd", "xfs", 8 << 20 | 300, "/dev/sdz"),
    ]


def test_lines_that_are_none_are_passed_over() -> None:
    assert parse_mountinfo("\n1 2 3\nhalf - \n") == []


def escape(text: str) -> str:
    """As the kernel does (fs/proc_namespace.c: mangle)."""
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_what_the_kernel_escapes_is_read_as_it_was(name: str) -> None:
    assert unescape(escape(name)) == name


POINTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1), min_size=1, max_size=4
)


@given(POINTS)
def test_every_mount_point_comes_back(points: list[str]) -> None:
    text = "".join(f"{number} 1 0:{number} / /{escape(point)} rw - tmpfs x rw\n" for number, point in enumerate(points))
    assert [mount.point for mount in parse_mountinfo(text)] == [f"/{point}" for point in points]


def test_mounts_below_a_folder_come_innermost_and_newest_first() -> None:
    mounts = parse_mountinfo(CAPTURED)
    assert mounts_below(Path("/run/kernelsecret"), mounts) == [
        "/run/kernelsecret/volumes/1f00/.kernelsecret",
        "/run/kernelsecret/volumes/1f00",
        "/run/kernelsecret",
    ]


def test_a_folder_whose_name_only_begins_alike_is_not_below() -> None:
    assert mounts_below(Path("/run/kernel"), parse_mountinfo(CAPTURED)) == []


def test_of_a_pods_mounts_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    lines = [f"{number} 1 0:{number} / /point-{number} rw - tmpfs tmpfs rw\n" for number in range(10, 99)]
    (tmp_path / "mountinfo").write_text("".join(lines))
    for most in range(200):
        found = read_mounts(str(tmp_path / "mountinfo"), most)
        assert len(found) in (most // len(lines[0]), most // len(lines[0]) + 1)
        assert [mount.device for mount in found] == [*range(10, 10 + len(found))]


@given(st.text(st.sampled_from("a\r\v\f\x1c\x85\u2028"), min_size=1))
def test_a_folder_that_is_named_with_other_ends_of_lines_makes_no_lines_of_its_own(name: str) -> None:
    line = f"7 1 0:5 /{name} /pods/{name} rw shared:1 master:2 propagate_from:3 - tmpfs tmpfs rw\n"
    assert parse_mountinfo(line * 2) == [Mount(7, f"/pods/{name}", "tmpfs", 5, "tmpfs", f"/{name}")] * 2


def test_one_mount_is_found_by_its_whole_number(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(CAPTURED)
    for mount in parse_mountinfo(CAPTURED):
        assert find_mount(str(tmp_path / "mountinfo"), mount.mount_id, 1 << 20) == mount
    for number in (2, 61, 6110, 999):
        assert find_mount(str(tmp_path / "mountinfo"), number, 1 << 20) is None
    assert find_mount(str(tmp_path / "mountinfo"), 701, 100) is None
