"""What the resolver sends, and when old leases may end: over real sockets, with a source that the test drives."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from agent.model import Observer, SecretRef, SecretVersion
from kernelsecret.cli.run.channel import Failed, Values, pair, receive, started
from kernelsecret.cli.run.login import Options, login_of
from kernelsecret.cli.run.references import Reference
from kernelsecret.cli.run.resolve import Resolver
from kernelsecret.cli.run.secrets import Secret, Secrets
from kernelsecret.cli.run.telling import Telling
from kernelsecret.errors import Code, Refused

REF = SecretRef("vault", "database/creds/app")
USER = Reference("USER_", "vault", REF.path, "username")
PASSWORD = Reference("PASSWORD", "vault", REF.path, "password")


@dataclass
class Source:
    """A source of one secret, which the test changes."""

    name: str = "vault"
    first: SecretVersion | Refused = field(default_factory=lambda: version(1))
    observer: Observer | None = None
    read: list[str] = field(default_factory=list)

    async def fetch(self, ref: SecretRef) -> SecretVersion:
        if isinstance(self.first, Refused):
            raise self.first
        return self.first

    def watch(self, ref: SecretRef, observer: Observer) -> Callable[[], None]:
        self.observer = observer
        return lambda: None

    def all_read(self, ref: SecretRef, label: str) -> None:
        self.read.append(label)

    def nudge(self, path: str) -> int:
        return 0

    def facts(self, ref: SecretRef) -> None:
        return None

    def holds_old(self, ref: SecretRef) -> bool:
        return False

    async def close(self) -> None:
        return None


def version(number: int, **more: str) -> SecretVersion:
    values = {"username": f"u{number}", "password": f"p{number}"} | more
    return SecretVersion(REF, {key: value.encode() for key, value in values.items()}, f"v{number}")


@dataclass
class Running:
    """A resolver that runs, and the supervisor's end."""

    source: Source
    end: socket.socket
    task: asyncio.Task[int]

    async def values(self) -> dict[str, bytes]:
        """Of the next message."""
        message, fds = await asyncio.to_thread(receive, self.end)
        assert isinstance(message, Values)
        found = {}
        for name, fd in zip(message.names, fds, strict=True):
            found[name] = os.pread(fd, 1 << 20, 0)
            os.close(fd)
        return found

    def change(self, new: SecretVersion) -> None:
        assert self.source.observer is not None
        self.source.observer.changed(new)


@pytest.fixture
async def running(source: Source) -> AsyncIterator[Running]:
    ours, theirs = pair()
    theirs.setblocking(False)
    telling = Telling()
    secrets = Secrets([], None, 1.0, telling)
    secrets.all = (Secret(source, REF, [USER, PASSWORD]),)
    with ours, theirs:
        ours.settimeout(20)
        task = asyncio.ensure_future(Resolver(theirs, secrets, telling).run())
        yield Running(source, ours, task)
        ours.close()
        await asyncio.wait_for(task, 20)


@pytest.fixture
def source() -> Source:
    return Source()


async def test_all_values_come_at_once_and_then_those_that_changed(running: Running) -> None:
    assert await running.values() == {"USER_": b"u1", "PASSWORD": b"p1"}
    running.change(version(1))
    running.change(version(2, username="u1"))
    assert await running.values() == {"PASSWORD": b"p2"}


async def test_a_version_that_lacks_a_key_is_not_taken_in_part(
    running: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    await running.values()
    running.change(SecretVersion(REF, {"username": b"u2"}, "v2"))
    assert "PASSWORD (vault:database/creds/app#password): there is no key 'password'" in capfd.readouterr().err
    running.change(version(3))
    assert await running.values() == {"USER_": b"u3", "PASSWORD": b"p3"}


async def test_old_leases_may_end_when_the_command_was_started_with_the_new_version(running: Running) -> None:
    await running.values()
    started(running.end, 1)
    running.change(version(2))
    await running.values()
    running.change(version(3))
    await running.values()
    await until(lambda: running.source.read == ["v1"])
    started(running.end, 2)
    await until(lambda: running.source.read == ["v1", "v2"])
    started(running.end, 3)
    await until(lambda: running.source.read == ["v1", "v2", "v3"])


async def test_a_supervisor_that_does_not_listen_gets_the_newest_when_it_does(running: Running) -> None:
    await running.values()
    for number in range(2, 2002):  # far more than the socket holds
        running.change(version(number))
    seen = await running.values()
    while seen["PASSWORD"] != b"p2001":
        seen = await running.values()
    assert seen == {"USER_": b"u2001", "PASSWORD": b"p2001"}


@pytest.mark.parametrize("source", [Source(first=Refused(Code.NOT_FOUND, "source.vault.path", "there is nothing"))])
async def test_what_cannot_be_resolved_is_said_and_ends_it(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    message, _ = await asyncio.to_thread(receive, running.end)
    assert message == Failed(125)
    assert await running.task == 125
    assert "USER_, PASSWORD (vault:database/creds/app#username): there is nothing\n" in capfd.readouterr().err


async def test_a_failure_is_told_while_the_command_runs(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    await running.values()
    assert running.source.observer is not None
    running.source.observer.failed(REF, "source.vault.role: Vault refuses")
    assert "--vault-role: Vault refuses; the last value stays\n" in capfd.readouterr().err


async def test_references_to_one_secret_are_read_once() -> None:
    login = login_of({"VAULT_TOKEN": "hvs.x", "VAULT_ADDR": "http://127.0.0.1:1"}, Options())
    secrets = Secrets([USER, PASSWORD], login, 1.0, Telling())
    assert [one.references for one in secrets.all] == [[USER, PASSWORD]]
    assert await secrets.close() == ""


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a socket is in between, whose reader tells nobody
            await asyncio.sleep(0.001)
