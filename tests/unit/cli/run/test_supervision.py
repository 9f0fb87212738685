"""The supervisor as a process: signals, children, statuses, and what COMMAND is started with."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from kernelsecret.cli.run.plan import Change, OnChange
from tests.unit.cli.run.supervised import children, python, supervised, until

TELL = """
import signal, sys, time
def tell(number, frame):
    print(signal.Signals(number).name)
    if number == signal.SIGTERM: sys.exit(5)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMIN):
    signal.signal(number, tell)
print("ready")
while True: signal.pause()
"""


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -RTMIN $$", 162)],
)
def test_the_status_is_that_of_the_command(script: str, status: int) -> None:
    with supervised(["sh", "-c", script]) as one:
        assert one.show().status() == status


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_be_run_126(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "closed").write_text("#!/bin/sh\n")
    cases = {"no-such-command": 127, "/no/such/command": 127, str(tmp_path / "text"): 126, str(tmp_path): 126}
    for command, status in cases.items():
        with supervised([command], stderr=subprocess.PIPE) as one:
            assert one.show().status() == status
            assert one.process.stderr is not None
            assert Path(command).name in one.process.stderr.read().decode()


def test_every_signal_reaches_the_command_once_and_its_own_status_counts() -> None:
    with supervised(python(TELL)) as one:
        one.show()
        assert one.says.line() == "ready"
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMIN, signal.SIGTERM):
            one.signal(number)
            assert one.says.line() == signal.Signals(number).name
        assert one.status() == 5
        with pytest.raises(EOFError):
            one.says.line()


def test_a_second_sigterm_reaches_a_command_that_did_not_heed_the_first() -> None:
    script = "import signal\nsignal.signal(15, lambda *_: print('heard'))\nprint('ready')\nwhile True: signal.pause()"
    with supervised(python(script)) as one:
        one.show()
        assert one.says.line() == "ready"
        for _ in range(2):
            one.signal(signal.SIGTERM)
            assert one.says.line() == "heard"
        one.signal(signal.SIGQUIT)
        assert one.status() == 128 + signal.SIGQUIT


def test_an_end_before_there_are_values_starts_nothing() -> None:
    with supervised(["echo", "ran"]) as one:
        until(lambda: _catches(one.pid, signal.SIGTERM), "the supervisor listens")
        one.signal(signal.SIGTERM)
        assert one.status() == 143
        assert one.process.stdout is not None
        assert one.process.stdout.read() == b""


def test_signals_go_to_the_command_alone_or_to_its_group() -> None:
    # The shell does not heed the signal, its child does.
    child = 'trap "echo child; exit" USR1; echo ready; while kill -0 $PPID; do sleep 0.05; done'
    script = f"trap 'echo shell' USR1; sh -c '{child}' & wait; wait"
    for to_group, heard in ((False, ["shell"]), (True, ["child", "shell"])):
        with supervised(["sh", "-c", script], to_group=to_group) as one:
            one.show()
            assert one.says.line() == "ready"
            one.signal(signal.SIGUSR1)
            assert sorted(one.says.line() for _ in heard) == heard


def test_orphans_are_reaped_and_their_end_is_nobodys_status(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # The parent of the one that waits at the gate ends at once: it is left to the supervisor.
    with supervised(
        ["sh", "-c", f"(sh -c 'read line <{gate}; exit 9' & echo $!); read last; exit 4"], stdin=subprocess.PIPE
    ) as one:
        orphan = int(one.show().says.line())
        until(lambda: orphan in children(one.pid), "the orphan is the supervisor's")
        gate.write_text("\n")
        until(lambda: orphan not in children(one.pid), "the orphan is gone, and no zombie")
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.status() == 4


def test_the_command_gets_environment_mask_dispositions_limits_and_files_as_we_got_them(tmp_path: Path) -> None:
    script = (
        "import os, resource, signal\n"
        "status = open('/proc/self/status').read()\n"
        "print([line.split()[1] for line in status.splitlines() if line.startswith(('SigBlk', 'SigIgn', 'SigCgt'))])\n"
        "print(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print(open('/proc/self/environ').read())\n"
    )

    # exec replaces this Python by the one that reports, as the shell's exec does; nothing of it is left.
    def report(command: list[str]) -> list[str]:
        with (tmp_path / "extra").open("w") as extra:
            ran = subprocess.run(
                command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
                pass_fds=[extra.fileno()], preexec_fn=_odd,
            )  # fmt: skip
        return ran.stdout.splitlines()

    given = {"PATH": os.environ["PATH"], "LC_ALL": "", "LANG": "C", "ODD": "a=b\nc", "EMPTY": ""}
    plain = report(python(script))
    with (tmp_path / "extra").open("w") as extra, supervised(
        python(script), environment=given, stdin=subprocess.DEVNULL, preexec_fn=_odd,
    ) as one:  # fmt: skip
        del extra
        one.show()
        lines = [one.says.line() for _ in range(4)]
    assert lines[0] == plain[0]
    assert lines[1] == "[0, 1, 2]"
    assert lines[2] == plain[2]
    assert lines[3] == plain[3]


def _odd() -> None:
    """As nohup and a careful shell leave it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def test_a_change_is_told_by_a_signal_after_the_values_are_there() -> None:
    script = (
        "import os, signal\n"
        "def tell(*_): print(open(os.environ['A']).read(), open(os.environ['B']).read())\n"
        "signal.signal(signal.SIGHUP, tell)\n"
        "tell()\n"
        "while True: signal.pause()\n"
    )
    with supervised(python(script), change=Change(OnChange.SIGNAL, signal.SIGHUP)) as one:
        one.show(A=b"1", B=b"one")
        assert one.says.line() == "1 one"
        for number, word in ((b"2", b"two"), (b"3", b"three")):
            one.show(A=number, B=word)
            assert one.says.line() == f"{number.decode()} {word.decode()}"


def test_a_restart_ends_the_command_and_starts_it_with_the_new_value() -> None:
    with supervised(["sh", "-c", "cat $A; echo; exec sleep 1000"], change=Change(OnChange.RESTART)) as one:
        one.show(A=b"old")
        assert (one.started(), one.says.line()) == (1, "old")
        one.show(A=b"new")
        assert (one.started(), one.says.line()) == (2, "new")
        one.signal(signal.SIGTERM)
        assert one.status() == 143


def test_who_does_not_end_for_a_restart_is_killed_after_the_grace() -> None:
    script = "trap '' TERM; cat $A; echo; while :; do sleep 1000; done"
    with supervised(["sh", "-c", script], change=Change(OnChange.RESTART), grace_s=0.05) as one:
        one.show(A=b"old")
        assert one.says.line() == "old"
        one.show(A=b"new")
        assert one.says.line() == "new"


def test_exit_ends_the_command_with_its_own_status() -> None:
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with supervised(["sh", "-c", script], change=Change(OnChange.EXIT)) as one:
        one.show(A=b"old")
        assert one.says.line() == "ready"
        one.show(A=b"new")
        assert one.status() == 3


def test_without_its_supervisor_the_command_gets_sigterm() -> None:
    script = "trap 'echo ended; exit' TERM; echo ready; while :; do sleep 0.05; done"
    with supervised(["sh", "-c", script]) as one:
        one.show(A=b"1")
        assert one.says.line() == "ready"
        one.signal(signal.SIGKILL)
        assert one.says.line() == "ended"


def test_without_the_process_that_reads_secrets_the_command_goes_on_with_the_last_values() -> None:
    with supervised(
        ["sh", "-c", "echo ready; read line; cat $A"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as one:
        one.show(A=b"last")
        assert one.says.line() == "ready"
        one.end.close()
        assert one.process.stderr is not None
        assert b"no value will change any more" in one.process.stderr.readline()
        assert one.process.stdin is not None
        one.process.stdin.write(b"\n")
        one.process.stdin.flush()
        assert one.process.wait(20) == 0
        assert one.process.stdout is not None
        assert one.process.stdout.read() == b"last"


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_command_goes_on_where_nobody_reads_what_we_say() -> None:
    with supervised(
        ["sh", "-c", "echo ready; read line; exit 6"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as one:
        one.show()
        assert one.says.line() == "ready"
        assert one.process.stderr is not None
        one.process.stderr.close()
        one.end.close()  # which is told
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.process.wait(20) == 6


def test_more_values_than_files_may_be_open_start_nothing_and_change_nothing() -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    many = {f"A{number}": b"1" for number in range(40)}
    with supervised(["echo", "ran"], preexec_fn=few, stderr=subprocess.PIPE) as one:
        assert one.show(**many).status() == 125
        assert one.process.stderr is not None
        assert b"raise the limit of open files" in one.process.stderr.read()
    with supervised(["sh", "-c", "echo ready; read line; cat $A"], preexec_fn=few, stdin=subprocess.PIPE) as one:
        one.show(A=b"first")
        assert one.says.line() == "ready"
        one.show(A=b"second", **many)
        assert one.process.stdin is not None
        one.process.stdin.close()
        assert one.status() == 0
        assert one.process.stdout is not None
        assert one.process.stdout.read() == b"first"
