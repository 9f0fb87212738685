"""One object for every kernel: what is built here serves, judges and rotates on Debian's 6.1 and 6.12, however locked.

The guests run the product's own probe and the tests of tests/kernel, from this checkout. In a guest nothing is skipped.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from tests.kernels.images import SERIES, image
from tests.kernels.machine import LONGEST_S, Boot, Ended, run
from tests.needs import need

PROBE = "-m kernelsecret.cli.main probe --require iter --output json"
PYTEST = "-m pytest -p no:cacheprovider -q --tb=short"
CORE = "tests/kernel/test_serving.py tests/kernel/test_lineage.py tests/kernel/test_entering.py"
# Left out: what is about programs, not kernels, and what has bounds of time that emulation does not keep.
WHOLE = "tests/kernel --ignore=tests/kernel/test_readers.py --ignore=tests/kernel/test_demo.py"
LOCKDOWNS = ("none", "integrity", "confidentiality")

pytestmark = pytest.mark.timeout(LONGEST_S + 120)


def boot(series: str, lockdown: str, tests: str, folder: Path, cgroup: int = 2) -> Ended:
    """Probe, then tests, in one guest; the two must have gone well."""
    need(platform.machine() == "x86_64", "an x86_64 machine, for Debian's amd64 kernels")
    python = sys.executable
    command = ("/bin/sh", "-c", f"{python} {PROBE} && exec {python} {PYTEST} {tests}")
    ended = run(image(series), Boot(lockdown, cgroup, command), folder)
    assert ended.kernel.startswith(f"{series}."), ended.kernel
    assert ended.lockdown == lockdown
    assert ended.status == 0, ended.output
    return ended


def probed(ended: Ended) -> dict[str, object]:
    """What the probe found, without the kernel's exact release."""
    found: dict[str, object] = json.loads(ended.output.splitlines()[0])
    assert found.pop("kernel") == ended.kernel
    return found


@pytest.mark.parametrize("lockdown", LOCKDOWNS)
@pytest.mark.parametrize("series", SERIES)
def test_the_object_serves_and_judges(series: str, lockdown: str, tmp_path: Path) -> None:
    # The strictest boot of each runs everything.
    ended = boot(series, lockdown, WHOLE if lockdown == LOCKDOWNS[-1] else CORE, tmp_path)
    assert probed(ended) == {"engine": "iter", "reason": "", "lockdown": lockdown, "btf": True, "cgroup_version": 2}


def test_pods_are_found_in_the_memory_hierarchy_of_cgroup_v1(tmp_path: Path) -> None:
    """Debian's 6.12 has no such hierarchy any more."""
    ended = boot("6.1", "none", CORE, tmp_path, cgroup=1)
    assert probed(ended)["cgroup_version"] == 1
