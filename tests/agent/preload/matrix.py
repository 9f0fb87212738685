"""The matrix: all programs side by side, while the secret that they read rotates."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.agent.preload.clients import Curl, Psql, Roles, https_server
from tests.agent.preload.loading import Running, bring, loads
from tests.agent.preload.nginx import Nginx
from tests.agent.preload.place import Place, has_shim
from tests.agent.preload.values import BUNDLE, Versions
from tests.agent.preload.watching import Seen
from tests.kernel.harness import peers
from tests.vault.harness.postgres import Postgres

RATE: Final = 50.0
"""Rotations a second that are tried for."""
VERSIONS_A_PASSWORD: Final = 20
FINISH_WITHIN_S: Final = 60.0

Show = Callable[[int, Mapping[str, bytes]], None]
"""Publishes a version (its number, its files) and returns when it is shown."""


class Client(Protocol):
    """A program that is driven from here."""

    name: str

    def run(self, stopped: threading.Event) -> Seen:
        """Until stopped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: `seen` by the program's name."""

    seen: Mapping[str, Seen]
    rotations: int
    seconds: float
    last: int
    unaffected: Mapping[str, str]
    """Programs that the agent says the shim does not reach: path, why."""

    @property
    def errors(self) -> int:
        """All faults, and programs that missed the last version."""
        return sum(len(one.faults) + (one.last < self.newest_for(name)) for name, one in self.seen.items())

    def newest_for(self, name: str) -> int:
        """The version that a program must have read at the end: psql's password is not another in each."""
        return self.last // VERSIONS_A_PASSWORD * VERSIONS_A_PASSWORD if name == Psql.name else self.last


class Rotation:
    """Makes versions and lets them be shown, one after the other."""

    def __init__(self, show: Show, versions: Versions, roles: Roles) -> None:
        self._show, self._versions, self._roles = show, versions, roles
        self.number = 0

    def step(self) -> None:
        """The next version."""
        number = self.number + 1
        has_password = number % VERSIONS_A_PASSWORD == 0
        if has_password:
            self._roles.change(number)
        self._show(number, self._versions.files(number, self._roles.pgpass(number)))
        self.number = number
        if has_password:
            self._roles.turn()

    def go_on(self, seconds: float) -> float:
        """At `RATE`, or as fast as it goes; seconds that it took."""
        began = due = time.monotonic()
        while due - began < seconds:
            self.step()
            due = max(due + 1 / RATE, time.monotonic())
            time.sleep(max(due - time.monotonic(), 0))
        return time.monotonic() - began


def run(
    tools: Path,
    make_place: Callable[[Mapping[str, bytes]], Place],
    show: Show,
    told: Callable[[], Mapping[str, str]],
    seconds: float,
) -> Outcome:
    """`tools` is the place's; `make_place` publishes the volume with its first version; `told` waits for what the agent
    says of the programs, which run meanwhile. Raises where one does not come up."""
    versions = Versions()
    programs = loads()
    bring(programs, tools)
    with ExitStack() as undo:
        postgres = undo.enter_context(Postgres.started())
        roles = Roles(postgres)
        rotation = Rotation(show, versions, roles)
        rotation.number = 1
        place = make_place(versions.files(1, roles.pgpass(1)))
        server = _served(versions, place, undo)
        running = [Running(load, place) for load in programs]
        clients: list[Client] = [
            Curl(place, server),
            Psql(place, postgres, roles),
            Nginx(place, versions.authority_pem, lambda: rotation.number),
        ]
        stopped = threading.Event()
        pool = undo.enter_context(ThreadPoolExecutor(len(clients)))
        undo.callback(stopped.set)
        undo.callback(place.pod.kill)  # so that nobody waits for a program that hangs
        seeing = {client.name: pool.submit(client.run, stopped) for client in clients}
        rotated, took = rotation.number, rotation.go_on(seconds)
        unaffected = told()
        stopped.set()
        seen = {one.name: one.finish(has_shim(one.container)) for one in running}
        seen |= {name: future.result(FINISH_WITHIN_S) for name, future in seeing.items()}
        return Outcome(seen, rotation.number - rotated, took, rotation.number, unaffected)


def _served(versions: Versions, place: Place, undo: ExitStack) -> peers.Https:
    bundle = place.tools / BUNDLE
    bundle.write_bytes(versions.bundle(1))
    server = https_server(bundle)
    thread = peers.start(server)
    undo.callback(server.server_close)
    undo.callback(thread.join)
    undo.callback(server.shutdown)
    return server
