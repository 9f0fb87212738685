"""Each measure is proven on a real process, beside an unhardened one that shows what would happen otherwise."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kernelsecret.errors import Refused
from telemetry.hardening import Hardening, Measure, _can_lock, harden, status_field
from tests.needs import need

NOBODY = 65534
ROOT = Path(__file__).parents[3]
CANARY = "c4n4ry-hunter2-s3cr3t"

# Stands in the place of the agent. It drops to another user itself, after its imports, as the interpreter may not be
# in that
# user's reach, and is made dumpable again, as a process that started as that user is.
VICTIM = """
import ctypes, json, os, resource, sys
from telemetry.hardening import PR_SET_DUMPABLE, harden
hardened, uid = sys.argv[1] == "hardened", int(sys.argv[2])
libc = ctypes.CDLL(None)
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # where Yama is: not what is tried here
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
report = harden() if hardened else None
secret = ctypes.create_string_buffer(sys.stdin.readline().strip().encode())
status = open("/proc/self/status").read() if os.access("/proc/self/status", os.R_OK) else ""
print(json.dumps({
    "pid": os.getpid(), "address": ctypes.addressof(secret), "status": status,
    "limits": open("/proc/self/limits").read(),
    "report": {} if report is None else dict(report.as_status()),
}), flush=True)
command = sys.stdin.readline().strip()
if command == "crash":
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        pass
    ctypes.string_at(0)
if command == "umask":
    os.close(os.open(sys.argv[3], os.O_CREAT | os.O_WRONLY, 0o666))
    print(oct(os.stat(sys.argv[3]).st_mode & 0o777), flush=True)
"""

# A process of the same user, with no capability: what it gets of the victim's memory in three ways.
THIEF = """
import ctypes, os, sys
pid, address, size, uid = map(int, sys.argv[1:5])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
libc = ctypes.CDLL(None, use_errno=True)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
try:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        print("mem", memory.read(size))
except OSError as problem:
    print("mem", type(problem).__name__)
here = ctypes.create_string_buffer(size)
mine, theirs = Vector(ctypes.addressof(here), size), Vector(address, size)
libc.process_vm_readv(pid, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0)
print("readv", here.raw.strip(b"\\0"))
try:
    print("environ", "HOME" in open(f"/proc/{pid}/environ").read())
except OSError as problem:
    print("environ", type(problem).__name__)
PTRACE_SEIZE = 0x4206
attached = libc.ptrace(PTRACE_SEIZE, pid, None, None)
print("ptrace", attached, ctypes.get_errno())
"""


@contextmanager
def victim(*arguments: str, cwd: Path = ROOT) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": "/", "PATH": os.defpath},
    )
    with process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(CANARY + "\n")
            process.stdin.flush()
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], command: str) -> None:
    assert process.stdin is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()


def steal(facts: dict[str, Any]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", THIEF, str(facts["pid"]), str(facts["address"]), str(len(CANARY)), str(NOBODY)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_as_root_every_measure_holds_and_the_kernel_says_so() -> None:
    need(os.geteuid() == 0, "root, to lock memory")
    with victim("hardened", "0") as (process, facts):
        assert {name: one["achieved"] for name, one in facts["report"].items()} == {
            "not_dumpable": True,
            "no_core": True,
            "memory_locked": True,
            "umask": True,
            "no_new_privileges": True,
        }
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(status_field(status, "VmLck").split()[0]) > 1000
        assert status_field(status, "NoNewPrivs") == "1"
        assert status_field(status, "Umask") == "0077"
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"]
        assert Path(f"/proc/{process.pid}/mem").owner() == "root"


def test_memory_is_locked_as_it_is_touched_so_that_the_agent_stays_small() -> None:
    need(os.geteuid() == 0, "root, to lock memory")
    with victim("plain", "0") as (_, plain), victim("hardened", "0") as (_, hardened):
        resident = [int(status_field(facts["status"], "VmRSS").split()[0]) for facts in (plain, hardened)]
    assert resident[1] < resident[0] + 4096


def test_a_process_of_the_same_user_cannot_read_or_attach_what_it_could_otherwise() -> None:
    need(os.geteuid() == 0, "root, to start processes of another user")
    with victim("plain", str(NOBODY)) as (_, facts):
        got = steal(facts)
    assert got["mem"] == str(CANARY.encode()), "without hardening the theft must work, or this proves nothing"
    assert got["readv"] == str(CANARY.encode())
    assert got["environ"] == "True"
    assert got["ptrace"].startswith("0 ")
    with victim("hardened", str(NOBODY)) as (_, facts):
        got = steal(facts)
    assert got["mem"] == "PermissionError"
    assert got["readv"] == str(b"")
    assert got["environ"] == "PermissionError"
    assert got["ptrace"] == "-1 1"


def crash(kind: str, folder: Path) -> tuple[int, list[str]]:
    with victim(kind, "0", cwd=folder) as (process, _):
        tell(process, "crash")
        _, status = os.waitpid(process.pid, 0)
        process.returncode = -1
    left = list(folder.iterdir())
    for path in left:  # a core is large, and pytest keeps its folders
        path.unlink()
    return status, [path.name for path in left]


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    need(os.geteuid() == 0 and hard == resource.RLIM_INFINITY, "root, and cores that are not limited from outside")
    (tmp_path / "plain").mkdir()
    (tmp_path / "hardened").mkdir()
    status, _ = crash("plain", tmp_path / "plain")
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert os.WCOREDUMP(status), "without hardening there must be a core, or this proves nothing"
    status, left = crash("hardened", tmp_path / "hardened")
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)
    assert left == []


def test_files_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    with victim("hardened", "0", str(tmp_path / "made")) as (process, _):
        tell(process, "umask")
        assert process.stdout is not None
        assert process.stdout.readline() == "0o600\n"


def test_without_the_right_to_lock_memory_it_says_what_is_missing_and_does_the_rest() -> None:
    need(os.geteuid() == 0, "root, to start a process of another user")
    need(resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY, "a limit on locked memory")
    with victim("hardened", str(NOBODY)) as (_, facts):
        missing = {name: one["detail"] for name, one in facts["report"].items() if not one["achieved"]}
    assert set(missing) == {"memory_locked"}
    assert "CAP_IPC_LOCK" in missing["memory_locked"]


def test_a_thread_that_was_there_before_is_noticed() -> None:
    code = (
        "import threading\nfrom telemetry.hardening import harden\nstop = threading.Event()\n"
        "t = threading.Thread(target=stop.wait)\nt.start()\n"
        "print([m.name for m in harden().missing if m.name == 'no_new_privileges'])\nstop.set()\nt.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "['no_new_privileges']\n"


def test_hardening_twice_is_hardening_once() -> None:
    code = "from telemetry.hardening import harden\nprint(harden() == harden())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True\n"


def test_the_caller_can_insist_on_some_or_all_measures() -> None:
    report = Hardening((Measure("not_dumpable", True, ""), Measure("memory_locked", False, "needs CAP_IPC_LOCK")))
    report.require("not_dumpable")
    for names in ((), ("memory_locked",)):
        with pytest.raises(Refused, match=r"hardening\.memory_locked: needs CAP_IPC_LOCK"):
            report.require(*names)


@pytest.mark.parametrize(
    ("capabilities", "limit", "safe"),
    [
        ("0000000000004000", 0, True),
        ("0000000000000000", 8 << 20, False),
        ("0000000000000000", -1, True),
        ("", 0, False),
    ],
)
def test_memory_is_locked_only_where_no_later_allocation_can_fail_for_it(
    capabilities: str, limit: int, safe: bool
) -> None:
    assert _can_lock(f"CapEff:\t{capabilities}\n" if capabilities else "", limit) is safe


def test_harden_has_not_been_called_in_this_process() -> None:
    """These tests must leave the test run itself alone."""
    assert callable(harden)
    assert status_field(Path("/proc/self/status").read_text(), "VmLck").split()[0] == "0"
