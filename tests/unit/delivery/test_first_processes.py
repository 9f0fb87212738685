"""A process chooses its name, and the kernel shows it in the file that says which process it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.delivery import processes

NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, bytes.fromhex(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"a\rNSpid:\t9 1", b"a\x85NSpid: 9 1"], ids=["no-text", "return", "next"]
)
def test_no_name_of_a_process_makes_it_the_first_of_a_container_or_stops_the_look(name: bytes) -> None:
    command = [sys.executable, "-I", "-S", "-c", NAMED, name.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert not processes.is_first(child.pid)
        child.stdin.close()
