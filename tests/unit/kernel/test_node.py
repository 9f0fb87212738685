"""Facts of a node from what its /proc says, on files as they are found on real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kernel.node import UNKNOWN, CgroupHierarchy, parse_hierarchy, parse_lockdown

UNIFIED = "35 25 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "32 24 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n"
    "33 32 0:28 / /sys/fs/cgroup/unified rw,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
    "37 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
    "41 32 0:36 / /sys/fs/cgroup/memory rw,relatime shared:19 - cgroup cgroup rw,memory\n"
)
V1_SELF = "9:name=systemd:/init.scope\n6:cpu,cpuacct:/\n4:memory:/system.slice/agent.service\n0::/init.scope\n"


def test_on_a_unified_node_the_hierarchy_is_version_2() -> None:
    assert parse_hierarchy("0::/system.slice/agent.service\n", UNIFIED) == CgroupHierarchy(2, 0, Path("/sys/fs/cgroup"))


def test_where_the_memory_controller_is_v1_pods_are_found_there() -> None:
    assert parse_hierarchy(V1_SELF, V1) == CgroupHierarchy(1, 4, Path("/sys/fs/cgroup/memory"))


def test_a_controller_whose_name_only_contains_memory_is_not_it() -> None:
    text = "5:memory_extra:/\n0::/\n"
    assert parse_hierarchy(text, UNIFIED) == CgroupHierarchy(2, 0, Path("/sys/fs/cgroup"))


def test_a_memory_controller_that_is_not_mounted_does_not_count() -> None:
    without = "".join(line for line in V1.splitlines(keepends=True) if "memory" not in line)
    assert parse_hierarchy(V1_SELF, without) == CgroupHierarchy(2, 0, Path("/sys/fs/cgroup/unified"))


@pytest.mark.parametrize("mountinfo", ["", "garbage\n", "1 2 3\n\n - \n"])
def test_a_node_without_cgroups_has_no_hierarchy(mountinfo: str) -> None:
    assert parse_hierarchy("0::/\n", mountinfo) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", UNKNOWN),
    ],
)
def test_the_lockdown_is_the_word_in_brackets(text: str, word: str) -> None:
    assert parse_lockdown(text) == word


def test_only_mounts_at_the_asked_for_place_count() -> None:
    elsewhere = UNIFIED.replace("/sys/fs/cgroup", "/host/sys/fs/cgroup")
    assert parse_hierarchy("0::/\n", elsewhere) is None
    found = parse_hierarchy("0::/\n", elsewhere, Path("/host/sys/fs/cgroup"))
    assert found == CgroupHierarchy(2, 0, Path("/host/sys/fs/cgroup"))
