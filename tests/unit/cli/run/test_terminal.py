"""Job control as a user of a shell has it: a real shell on a real terminal, and COMMAND in its foreground."""

from __future__ import annotations

import os
import pty
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.unit.cli.run.commanded import environment, replaced
from tests.unit.cli.run.supervised import BOUND_S, Said, children, until

RUN = f"{sys.executable} -P -m kernelsecret.cli.main run"
ASK = """
import os, signal, sys
signal.signal(signal.SIGINT, lambda *_: print("<interrupted>"))
print("<ready>")
while (line := sys.stdin.readline()): print("<" + line.strip() + open(os.environ["A"]).read() + ">")
print("<end>")
"""


class Shell:
    """An interactive bash; what is typed is echoed, so words to wait for are made by the shell."""

    def __init__(self, pid: int, fd: int) -> None:
        self.pid, self.says = pid, Said(fd)

    def type(self, text: str) -> None:
        os.write(self.says.fd, text.encode())

    def foreground(self) -> None:
        """Continue the job there; the shell prints its command before it does."""
        self.type("fg\n")
        self.says.until(RUN)

    def jobs(self, word: str) -> str:
        """What `jobs` prints, once something that only it says has come."""
        self.type(f"jobs; echo '<'{word}'>'\n")
        return self.says.until(f"<{word}>")


@contextmanager
def shell(**variables: str) -> Iterator[Shell]:
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment(PS1="", TERM="dumb", **variables))
    try:
        yield Shell(pid, fd)
    finally:
        for job in children(pid):
            for below in (*children(job), job):
                with suppress(ProcessLookupError):
                    os.kill(below, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def test_a_command_in_a_shell_is_stopped_continued_and_interrupted_as_if_it_ran_alone(tmp_path: Path) -> None:
    secret = replaced(tmp_path / "a" / "b", "+value")
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    with shell(A=f"file:{secret}") as bash:
        bash.type(f"{RUN} -- {sys.executable} -u -S {script}\n")
        bash.says.until("<ready>")
        bash.type("first\n")
        bash.says.until("<first+value>")  # it reads the terminal: it is in its foreground
        bash.type("\x03")
        bash.says.until("<interrupted>")
        bash.type("\x1a")
        bash.says.until("Stopped")
        assert "Stopped" in bash.jobs("1")
        bash.foreground()
        bash.type("second\n")
        bash.says.until("<second+value>")
        bash.type("\x1a")
        bash.says.until("Stopped")
        bash.type("bg\n")
        # In the background it must not read: the terminal stops it, and the shell hears of that.
        until(lambda: "Stopped" in bash.jobs("again"), "the shell knows that it is stopped")
        bash.foreground()
        bash.type("third\n")
        bash.says.until("<third+value>")
        bash.type("\x04")
        bash.says.until("<end>")
        bash.type("echo '<'status $?'>'\n")
        assert bash.says.until("<status 0>", BOUND_S)


def test_a_script_goes_on_reading_the_terminal_after_the_command(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f'{RUN} -- sh -c \'read a; echo "<a $a>"\'\nread b\necho "<b $b>"\n')
    with shell() as bash:
        bash.type(f"sh {script}\n1\n")
        bash.says.until("<a 1>")
        bash.type("2\n")
        bash.says.until("<b 2>")


def test_in_a_pipeline_the_terminal_is_the_pagers_until_the_command_asks_for_it() -> None:
    pager = "sh -c 'read begun; read page </dev/tty; echo \"<page $page>\"'"
    with shell() as bash:
        bash.type(f"{RUN} -- sh -c 'echo begun; exec sleep 1000' | {pager}\n1\n")
        bash.says.until("<page 1>")
        bash.type("\x03")  # both are in the foreground for that: the one itself, the other by what is passed on
        bash.type(f"{RUN} -- sh -c 'read line </dev/tty; echo \"<line $line>\"' | cat\n2\n")
        bash.says.until("<line 2>")
