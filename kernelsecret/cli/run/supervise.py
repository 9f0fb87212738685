"""The supervisor: COMMAND's parent, whose descriptors COMMAND opens.

It is a program of its own, so that nothing of what knew a credential is left in a process that COMMAND may look into.
It has no value in its memory either: descriptors come from the resolver, and each new one takes the place of the old
one in one step (dup3), so that whoever opens the path has one value or the other, whole.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from kernelsecret.cli.failures import say
from kernelsecret.cli.run.channel import Failed, Values, receive, started
from kernelsecret.cli.run.child import NotStarted, Start
from kernelsecret.cli.run.lifecycle import ENDING, Do, Lifecycle, Step
from kernelsecret.cli.run.pipes import Feed
from kernelsecret.cli.run.plan import Pass, Plan, Status
from kernelsecret.cli.run.signals import Signals
from kernelsecret.cli.run.terminal import Terminal
from telemetry.hardening import PR_SET_DUMPABLE, prctl

PR_SET_CHILD_SUBREAPER: Final = 36
END_S: Final = 6.0
"""For the resolver to revoke and end, after COMMAND has; a second request to end is not waited for."""


def environment_of(process: str = "self") -> dict[bytes, bytes]:
    """The environment that a process was started with: Python changes its own (LC_CTYPE)."""
    with open(f"/proc/{process}/environ", "rb") as environ:
        pairs = (entry.partition(b"=") for entry in environ.read().split(b"\0"))
    return {name: value for name, equals, value in pairs if equals and name}


class Supervisor:
    """One COMMAND and what it needs."""

    def __init__(self, end: socket.socket, plan: Plan, start: Start) -> None:
        self._end, self._plan, self._start = end, plan, start
        self._signals = start.signals
        self._terminal = Terminal()
        self._life = Lifecycle(plan.change)
        self._slots: dict[str, int] = {}
        self._feeds: dict[int, Feed] = {}
        self._number = 0
        self._child = 0
        self._resolver_lives = True
        self._deadline: float | None = None
        self._status: int | None = None
        self._poll = select.poll()
        self._poll.register(self._signals.fd, select.POLLIN)
        self._poll.register(end, select.POLLIN)

    def run(self) -> int:
        """Until COMMAND has ended. The exit status."""
        while self._status is None:
            for fd, _event in self._poll.poll(self._left_ms()):
                if fd == self._signals.fd:
                    self._heard()
                elif fd == self._end.fileno():
                    self._told()
                elif fd in self._feeds:
                    self._feed(self._feeds[fd])
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._deadline = None
                self._do(self._life.grace_over())
        self._terminal.take_back()
        self._dismiss()
        return self._status

    # What happens

    def _heard(self) -> None:
        numbers = self._signals.read()
        for number in numbers:
            if number != signal.SIGCHLD:
                self._do(self._life.signalled(number))
        if signal.SIGCHLD in numbers:
            self._reap()

    def _reap(self) -> None:
        """Whatever has ended is waited for: also what others left to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid != self._child:
                continue
            if os.WIFSTOPPED(status):
                self._do(self._life.stopped(os.WSTOPSIG(status)))
            else:
                self._child = 0
                self._deadline = None
                code = os.waitstatus_to_exitcode(status)
                self._do(self._life.ended(code if code >= 0 else 128 - code))

    def _told(self) -> None:
        message, fds = receive(self._end)
        match message:
            case Values() if len(fds) != len(message.names):
                self._overfull(fds)
            case Values():
                self._number = message.number
                for name, fd in zip(message.names, fds, strict=True):
                    self._put(name, fd)
                self._do(self._life.resolved() if self._life.is_waiting else self._life.changed())
            case Failed():
                self._status = message.status
            case _:
                self._poll.unregister(self._end)
                self._resolver_lives = False
                if self._life.is_waiting:
                    self._status = Status.NOT_STARTED
                elif self._status is None:
                    say("the process that reads secrets has ended: no value will change any more; restart this one")

    def _overfull(self, fds: Sequence[int]) -> None:
        """The kernel could not open all that came."""
        for fd in fds:
            os.close(fd)
        say("not all values can be held: raise the limit of open files (RLIMIT_NOFILE) above twice their number")
        if self._life.is_waiting:
            self._status = Status.NOT_STARTED

    def _put(self, name: str, fd: int) -> None:
        if name in self._slots:
            os.dup2(fd, self._slots[name], inheritable=False)
            os.close(fd)
        else:
            self._slots[name] = fd

    # What to do

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step.do:
                case Do.START:
                    self._run_command()
                case Do.SIGNAL:
                    self._signal(step.number, to_group=self._plan.to_group)
                case Do.SIGNAL_ALL:
                    self._signal(step.number, to_group=True)
                case Do.AWAIT:
                    self._deadline = time.monotonic() + self._plan.grace_s
                case Do.STOP:
                    self._terminal.stopped(self._child, step.number)
                case Do.EXIT:
                    self._status = step.number

    def _run_command(self) -> None:
        feeds = {name: Feed(fd) for name, fd in self._slots.items()} if self._plan.by is Pass.PIPE else {}
        descriptors = {name: feed.reading for name, feed in feeds.items()} or self._slots
        self._terminal.take_back()
        terminal = self._terminal.fd
        try:
            self._child = self._start.run(descriptors, terminal)
        except NotStarted as error:
            say(str(error))
            self._status = error.status
            return
        if terminal is not None:
            self._terminal.lent(self._child)
        for feed in self._feeds.values():
            self._poll.unregister(feed.fd)
            feed.close()
        self._feeds = {}
        for feed in feeds.values():
            feed.started()
            if not feed.push():
                self._feeds[feed.fd] = feed
                self._poll.register(feed.fd, select.POLLOUT)
        with suppress(OSError):
            started(self._end, self._number)

    def _feed(self, feed: Feed) -> None:
        fd = feed.fd
        if feed.push():
            del self._feeds[fd]
            self._poll.unregister(fd)

    def _signal(self, number: int, *, to_group: bool) -> None:
        if self._child:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(-self._child if to_group else self._child, number)

    # The end

    def _dismiss(self) -> None:
        """The resolver hears of the end, and has a moment to revoke what was made for COMMAND."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)
        ends = time.monotonic() + END_S
        while self._resolver_lives and (left := ends - time.monotonic()) > 0:
            events = self._poll.poll(left * 1000)
            if any(fd == self._signals.fd for fd, _ in events) and ENDING & set(self._signals.read()):
                return
            if any(fd == self._end.fileno() for fd, _ in events):
                self._resolver_lives = receive(self._end)[0] is not None
            for feed in (self._feeds.get(fd) for fd, _ in events):
                if feed is not None:
                    self._feed(feed)

    def _left_ms(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000 + 1


def supervise(fd: int, command: Sequence[str], environment: Mapping[bytes, bytes]) -> int:
    """Be the supervisor. `fd` is our end of the channel."""
    signals = Signals()
    os.set_inheritable(fd, False)
    end = socket.socket(fileno=fd)
    core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, core[1]))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    plan, _ = receive(end)
    if not isinstance(plan, Plan):
        return Status.NOT_STARTED
    if plan.by is Pass.PIPE:
        prctl(PR_SET_DUMPABLE, 0)  # nobody has to open what is ours
    return Supervisor(end, plan, Start(command, environment, plan.by, signals, core)).run()


if __name__ == "__main__":
    # Not sys.exit: what nobody reads any more would make its status another one.
    os._exit(supervise(int(sys.argv[1]), sys.argv[3:], environment_of()))
