"""The pods that the other tests of the kernel stand on are what they claim to be."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelsecret.cli.simulation.cgroups import read_hierarchies
from kernelsecret.cli.simulation.pod import DEFAULT_CAPABILITIES, CannotStart, Pod, python

FOREVER = ["/bin/sleep", "600"]


@pytest.fixture
def pod() -> Iterator[Pod]:
    with Pod(str(uuid.uuid4()), "shop", "web") as made:
        yield made


def field(status: bytes, name: str) -> str:
    return next(line.split(":", 1)[1].strip() for line in status.decode().splitlines() if line.startswith(f"{name}:"))


def test_a_container_is_pid_1_in_namespaces_of_its_own(pod: Pod) -> None:
    container = pod.container("app", FOREVER)
    assert field(Path(f"/proc/{container.pid}/status").read_bytes(), "NSpid").split()[-1] == "1"
    for kind in ("mnt", "pid", "uts", "ipc"):
        assert os.stat(f"/proc/{container.pid}/ns/{kind}").st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino


def test_it_is_in_its_cgroup_in_every_hierarchy(pod: Pod) -> None:
    container = pod.container("app", FOREVER)
    for root in read_hierarchies():
        tasks = (root / f"kubepods/burstable/pod{pod.uid}" / container.id / "cgroup.procs").read_text()
        assert tasks.split() == [str(container.pid)]


def test_it_has_the_capabilities_of_a_container_and_no_more(pod: Pod) -> None:
    container = pod.container("app", ["/bin/cat", "/proc/self/status"])
    status = container.process.finish().stdout
    expected = sum(1 << number for number in DEFAULT_CAPABILITIES)
    assert int(field(status, "CapEff"), 16) == expected
    assert int(field(status, "CapBnd"), 16) == expected
    assert int(field(status, "CapInh"), 16) == 0


def test_another_user_keeps_no_capability(pod: Pod) -> None:
    container = pod.container("app", ["/bin/cat", "/proc/self/status"], uid=1000, gid=1001, groups=[2000])
    status = container.process.finish().stdout
    assert field(status, "Uid").split() == ["1000"] * 4
    assert field(status, "Gid").split() == ["1001"] * 4
    assert field(status, "Groups").split() == ["2000"]
    assert int(field(status, "CapEff"), 16) == 0


def test_a_volume_is_shown_read_only_and_the_host_is_not(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary")
    script = f"cat /var/run/secrets/db/password; touch /var/run/secrets/db/new; ls {tmp_path}"
    container = pod.container("app", ["/bin/sh", "-c", script], {"db": tmp_path})
    finished = container.process.finish()
    assert finished.stdout == b"canary"
    assert b"Read-only file system" in finished.stderr
    assert finished.status == 2
    assert not (tmp_path / "new").exists()


def test_what_the_host_mounts_later_does_not_come_in(pod: Pod) -> None:
    container = pod.container("app", FOREVER)
    mounts = Path(f"/proc/{container.pid}/mountinfo").read_text()
    assert " shared:" not in mounts
    assert " master:" not in mounts


def test_an_entered_process_comes_from_outside(pod: Pod) -> None:
    container = pod.container("app", FOREVER)
    script = "echo $PPID; read -r line < /proc/self/cgroup; echo $line; cat /proc/self/status"
    entered = container.enter(["/bin/sh", "-c", script])
    finished = entered.finish()
    assert finished.stdout.startswith(b"0\n")  # its parent is in no namespace that it can see
    assert container.id.encode() in finished.stdout
    assert int(field(finished.stdout, "CapEff"), 16) == sum(1 << number for number in DEFAULT_CAPABILITIES)


def test_input_reaches_a_program_and_its_end_is_told(pod: Pod) -> None:
    container = pod.container("app", ["/bin/sh", "-c", "read -r line; echo got $line; kill -9 $$"], stdin=True)
    entered = container.enter(["/bin/cat"], stdin=True)
    assert entered.stdin
    assert container.process.stdin
    entered.stdin.write(b"hello")
    assert entered.finish().stdout == b"hello"
    container.process.stdin.write(b"hello\n")
    container.process.stdin.flush()
    # Its namespace's first process cannot kill itself, so it ends as usual.
    assert container.process.finish().stdout == b"got hello\n"


def test_containers_can_share_their_pids(pod: Pod) -> None:
    first = pod.container("app", FOREVER)
    second = pod.container("helper", FOREVER, share_pids_with=first)
    assert os.stat(f"/proc/{first.pid}/ns/pid").st_ino == os.stat(f"/proc/{second.pid}/ns/pid").st_ino
    assert field(Path(f"/proc/{second.pid}/status").read_bytes(), "NSpid").split()[-1] != "1"
    assert second.enter(["/bin/sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]).finish().stdout == b"/bin/sleep 600 "


def test_a_container_can_have_the_pids_of_the_host(pod: Pod) -> None:
    container = pod.container("app", FOREVER, host_pids=True)
    assert os.stat(f"/proc/{container.pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    assert container.enter(["/bin/sh", "-c", f"ls -d /proc/{container.pid}"]).finish().status == 0


def test_the_interpreter_of_the_host_runs_in_a_container(pod: Pod) -> None:
    container = pod.container("app", [python(), "-I", "-c", "import os, json; print(os.getpid())"])
    assert container.process.finish().stdout == b"1\n"


def test_a_program_that_is_not_there_is_named_and_leaves_nothing(pod: Pod) -> None:
    with pytest.raises(CannotStart, match=r"/no/such: .*No such file or directory"):
        pod.container("app", ["/no/such"])
    pod.remove()
    assert not pod.cgroup.exists()


def test_the_end_of_a_pod_leaves_nothing() -> None:
    above = f"kubepods-{uuid.uuid4()}"
    with (
        Pod("1", "shop", "one", cgroup_path=f"{above}/burstable/pod1") as one,
        Pod("2", "shop", "two", cgroup_path=f"{above}/burstable/pod2") as two,
    ):
        container = one.container("app", FOREVER)
        container.enter(["/bin/sh", "-c", "sleep 600 & exec sleep 600"])
        pids = list(one.cgroups.tasks())
        two.container("app", FOREVER)
        one.remove()
        assert two.cgroup.exists()
    assert pids
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not one.cgroup.exists()
    assert not [root for root in read_hierarchies() if (root / above).exists()]


def test_a_user_namespace_gives_root_enough_to_mount_and_to_start_containers() -> None:
    script = (
        "import os; from kernelsecret.cli.demo.userns import become_root; become_root()\n"
        "from kernelsecret.cli.simulation.pod import Pod\n"
        "with Pod('u', 'n', 'p', hierarchies=[]) as pod:\n"
        "    print(os.geteuid(), pod.container('c', ['/bin/sh', '-c', 'echo $$']).process.finish().stdout)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("0 b'1\\n'\n", "")
    assert "kernelsecret-root-" not in Path("/proc/self/mountinfo").read_text()
