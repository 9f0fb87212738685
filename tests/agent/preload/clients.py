"""curl and psql: programs that send what they read to a server, which says whether it was good."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from psycopg import sql

from kernelsecret.cli.simulation.process import Process
from tests.agent.preload.place import LIVE, PREFIX, Place, has_shim
from tests.agent.preload.values import (
    BUNDLE,
    HEADER,
    HOST,
    NETRC,
    PASSWORD_TIMES,
    PGPASS,
    TOKEN_TIMES,
    NotWhole,
    digits,
    number_of,
)
from tests.agent.preload.watching import Seen
from tests.kernel.harness import peers
from tests.vault.harness.postgres import DATABASE, Postgres
from tests.vault.harness.programs import postgres_program

TRANSFERS: Final = 5
ANSWER_LINES: Final = 5
WAIT_S: Final = 30.0


class Roles:
    """Two roles of a database. A password changes while nobody logs in by it, and is used once it is shown."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._names = ("web_0", "web_1")
        self._passwords = ["", ""]
        self._current = 0
        self._changed = 0
        self._users = [0, 0]
        self._idle = threading.Condition()
        for name in self._names:
            postgres.query(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        for role in (0, 1):
            self._change(role, 0)

    def pgpass(self, number: int) -> str:
        """The file of a version; a comment makes each another."""
        lines = [f"*:*:*:{name}:{password}" for name, password in zip(self._names, self._passwords, strict=True)]
        return "\n".join([f"# {digits(number)}", *lines, ""])

    def change(self, number: int) -> None:
        """A new password for the role that nobody is to use now."""
        other = 1 - self._current
        with self._idle:
            if not self._idle.wait_for(lambda: not self._users[other], WAIT_S):
                raise RuntimeError(f"a login has not ended within {WAIT_S:g} s")
        self._change(other, number)
        self._changed = number

    def turn(self) -> None:
        """What was changed is shown: whoever logs in from now on is the other role."""
        with self._idle:
            self._current = 1 - self._current

    @contextmanager
    def login(self) -> Iterator[tuple[str, int]]:
        """A role that can log in until the end of the block, and the version that brought its password."""
        with self._idle:
            role, number = self._current, self._changed
            self._users[role] += 1
        try:
            yield self._names[role], number
        finally:
            with self._idle:
                self._users[role] -= 1
                self._idle.notify_all()

    def _change(self, role: int, number: int) -> None:
        self._passwords[role] = f"{self._names[role]}-{digits(number)}"
        self._postgres.query(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(self._names[role]), sql.Literal(self._passwords[role])
            )
        )


class Psql:
    """One psql that connects again and again; each connection reads the password file anew."""

    name = "psql"

    def __init__(self, place: Place, postgres: Postgres, roles: Roles) -> None:
        self._roles = roles
        self._server = f"host=127.0.0.1 port={postgres.port} dbname={DATABASE} gssencmode=disable sslmode=disable"
        self._ways = {"PGPASSFILE (prefix)": "", "passfile=": f" passfile={LIVE}/{PGPASS}"}
        program = postgres_program("psql")
        with roles.login() as (role, _):
            command = [
                str(program),
                "-X",
                "-A",
                "-t",
                "-q",
                "-w",
                "-v",
                "ON_ERROR_STOP=1",
                f"{self._server} user={role}",
            ]
            self._container = place.start(self.name, command, stdin=True, PGPASSFILE=f"{PREFIX}/{PGPASS}")
            self._asked(self._container.process, "SELECT 'ready';")

    def run(self, stopped: threading.Event) -> Seen:
        """Until stopped, and then once more in each way."""
        process, seen = self._container.process, Seen(has_shim=has_shim(self._container))
        while True:
            is_last = stopped.is_set()
            for way, more in self._ways.items():
                with self._roles.login() as (role, number):
                    connect = f'\\connect -reuse-previous=off "{self._server} user={role}{more}"\n'
                    said = self._asked(process, f"{connect}SELECT current_user;")
                if said != role:
                    seen.fault(way, said or process.stderr.read().decode(errors="replace").strip())
                    return seen
                seen.read(way, number)
            if is_last:
                return seen

    def _asked(self, process: Process, question: str) -> str:
        assert process.stdin is not None
        process.stdin.write(question.encode() + b"\n")
        process.stdin.flush()
        return process.stdout.readline().decode().strip()


class Curl:
    """A shell that starts curl as a script does; each of its transfers reads authority and password file anew."""

    name = "curl"

    def __init__(self, place: Place, server: peers.Https) -> None:
        self._url = f"https://{HOST}:{server.server_address[1]}/[1-{TRANSFERS}]"
        self._container = place.start(self.name, ["/bin/sh"], stdin=True)

    def run(self, stopped: threading.Event) -> Seen:
        """Until stopped, and then once more."""
        seen = Seen(has_shim=has_shim(self._container))
        while True:
            is_last = stopped.is_set()
            for way, folder in (("", LIVE), (" (prefix)", PREFIX)):
                self._transfers(seen, way, folder)
            if is_last:
                return seen

    def _transfers(self, seen: Seen, way: str, folder: str) -> None:
        options = f"--cacert {folder}/{BUNDLE} --netrc-file {folder}/{NETRC} --header @{folder}/{HEADER}"
        process = self._container.process
        assert process.stdin is not None
        process.stdin.write(f"curl -sS {options} '{self._url}' 2>&1; echo \"status $?\"\n".encode())
        process.stdin.flush()
        lines: list[str] = []
        while not (lines and lines[-1].startswith("status ")):
            line = process.stdout.readline().decode(errors="replace")
            if not line:
                seen.fault(f"curl{way}", "the shell ended")
                return
            lines.append(line.strip())
        if lines[-1] != "status 0" or len(lines) != TRANSFERS * ANSWER_LINES + 1:
            seen.fault(f"curl{way}", " ".join(lines)[-300:])
            return
        newest = 0
        for at in range(0, TRANSFERS * ANSWER_LINES, ANSWER_LINES):
            _, password, token, _, _ = lines[at : at + ANSWER_LINES]
            try:
                newest = number_of(password.removeprefix("web:"), PASSWORD_TIMES)
                # The header's file is read once, by a curl that goes on to read the password's for each transfer.
                if at == 0:
                    seen.read(f"--header @file{way}", number_of(token, TOKEN_TIMES))
                seen.read(f"--netrc-file{way}", newest)
            except NotWhole as error:
                seen.fault(f"curl{way}", str(error))
            seen.read(f"--cacert{way}", newest)


def https_server(bundle: Path) -> peers.Https:
    """Says back what curl sent; its certificate is of the authority that every version of the bundle holds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    return peers.Https(context)
