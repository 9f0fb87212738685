"""The process that knows credentials and reads secrets. Nobody may look into it; COMMAND never sees it.

It ends when the supervisor ends, however that came, and revokes what was made for COMMAND.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

from agent.model import SecretRef, SecretVersion
from kernelsecret.cli.failures import say
from kernelsecret.cli.run.channel import Failed, Values, heard, send
from kernelsecret.cli.run.login import Login, in_our_words
from kernelsecret.cli.run.plan import Plan, Status
from kernelsecret.cli.run.references import Reference
from kernelsecret.cli.run.sealed import Sealed
from kernelsecret.cli.run.secrets import Secret, Secrets, problems_of
from kernelsecret.cli.run.telling import Telling, hush
from kernelsecret.errors import said
from telemetry.hardening import harden

_LAST_OF_THEIRS: Final = 2
"""Standard error is ours too; every other descriptor is COMMAND's."""


def run(end: socket.socket, plan: Plan, found: Sequence[Reference], login: Login | None, poll_s: float) -> NoReturn:
    """Be that process, just forked, until the supervisor ends."""
    status = 1
    try:
        _stand_apart(end.fileno())
        hush()
        end.setblocking(False)
        send(end, plan)
        status = asyncio.run(_run(end, found, login, poll_s))
    except BaseException as error:  # noqa: BLE001 - a fork must not go on with its parent's work
        say(f"the process that reads secrets has failed: {said(error)}")
    finally:
        os._exit(status)


def _stand_apart(end: int) -> None:
    """A session of its own: signals of the terminal are COMMAND's, and so are its files."""
    harden()
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(_LAST_OF_THEIRS + 1, end)
    os.closerange(end + 1, os.sysconf("SC_OPEN_MAX"))


async def _run(end: socket.socket, found: Sequence[Reference], login: Login | None, poll_s: float) -> int:
    telling = Telling()
    secrets = Secrets(found, login, poll_s, telling)
    try:
        return await Resolver(end, secrets, telling).run()
    finally:
        if lacking := await secrets.close():
            say(lacking)


class Resolver:
    """Resolves, and then follows."""

    def __init__(self, end: socket.socket, secrets: Secrets, telling: Telling) -> None:
        self._end, self._secrets, self._telling = end, secrets, telling
        self._loop = asyncio.get_running_loop()
        self._shown: dict[str, bytes] = {}
        self._held: dict[str, Sealed] = {}
        self._pending: dict[str, Sealed] = {}
        self._number = 0
        self._labels: list[tuple[int, Secret, str]] = []
        """Versions that went out with a message that COMMAND was not known to have been started with."""
        self._over = asyncio.Event()

    async def run(self) -> int:
        """Until the supervisor ends. The exit status."""
        self._loop.add_reader(self._end.fileno(), self._listen)
        resolving = asyncio.ensure_future(self._resolve())
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait((resolving, over), return_when=asyncio.FIRST_COMPLETED)
        if not resolving.done():
            resolving.cancel()
            await asyncio.wait((resolving,))
            return 1
        if status := resolving.result():
            over.cancel()
            return status
        await over
        return 0

    async def _resolve(self) -> int:
        found = await self._secrets.fetch()
        if problems := problems_of(found):
            for problem in problems:
                say(problem)
            send(self._end, Failed(Status.NOT_STARTED))
            return Status.NOT_STARTED
        for one in found:
            if one.version is not None:
                self._take(one.secret, one.version)
        self._flush(always=True)
        self._telling.is_running = True
        for secret in self._secrets.all:
            secret.source.watch(secret.ref, _Following(self, secret))
        return 0

    # What changes

    def changed(self, secret: Secret, version: SecretVersion) -> None:
        """Another version, which counts as a whole or not at all."""
        if lacking := secret.lacking(version):
            for problem in lacking.values():
                say(f"{problem}; the last version stays")
            return
        try:
            if self._take(secret, version):
                self._flush()
        except OSError as error:
            say(f"{secret.names}: the new value cannot be held ({said(error)}); the last one stays")

    def failed(self, secret: Secret, problem: str) -> None:
        """It cannot be read now."""
        if problem != self._telling.down:
            say(f"{secret.names} ({secret.references[0]}): {in_our_words(problem)}; the last value stays")

    def _take(self, secret: Secret, version: SecretVersion) -> bool:
        """Have what changed ready to be sent. Whether anything did. Raises OSError where it cannot be held."""
        values = {one.name: version.values[one.key] for one in secret.references}
        changed = {name: value for name, value in values.items() if self._shown.get(name) != value}
        for name, sealed in {name: Sealed(value) for name, value in changed.items()}.items():
            if name in self._pending:
                self._pending.pop(name).close()
            self._pending[name] = sealed
        self._shown |= changed
        if changed:
            self._labels.append((self._number + 1, secret, version.label))
        return bool(changed)

    def _flush(self, *, always: bool = False) -> None:
        """Send what is pending; where the supervisor does not listen (it is stopped), when it does again."""
        if not self._pending and not always:
            return
        names = tuple(self._pending)
        fds = tuple(sealed.fd for sealed in self._pending.values())
        try:
            send(self._end, Values(self._number + 1, names), fds)
        except BlockingIOError:
            self._loop.add_writer(self._end.fileno(), partial(self._flush, always=True))
            return
        except OSError:
            self._over.set()
            return
        self._loop.remove_writer(self._end.fileno())
        self._number += 1
        for name in names:
            if name in self._held:
                self._held[name].close()
            self._held[name] = self._pending.pop(name)

    def _listen(self) -> None:
        try:
            number = heard(self._end)
        except BlockingIOError:
            return
        if number is None:
            self._loop.remove_reader(self._end.fileno())
            self._over.set()
            return
        for at, secret, label in self._labels:
            if at <= number:
                self._secrets.all_read(secret, label)
        self._labels = [one for one in self._labels if one[0] > number]


@dataclass(frozen=True, slots=True)
class _Following:
    """Implements `agent.model.Observer` for one secret."""

    resolver: Resolver
    secret: Secret

    def changed(self, version: SecretVersion) -> None:
        self.resolver.changed(self.secret, version)

    def failed(self, ref: SecretRef, problem: str) -> None:
        self.resolver.failed(self.secret, problem)
