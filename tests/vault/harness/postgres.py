"""A real PostgreSQL: a cluster of its own in a temporary folder, on a free port of loopback, with passwords by SCRAM.

with Postgres.started() as postgres:
    database = postgres.enable(vault, ttl="10s", max_ttl="1m")
    made = vault.read(database.path())["data"]
    with postgres.connect(made["username"], made["password"]) as connection: ...
    postgres.roles()          # ["v-token-app-..."]
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from tests.apiserver.harness.processes import Process, free_port
from tests.apiserver.harness.waiting import until
from tests.vault.harness.programs import lacks_postgres, postgres_program
from tests.vault.harness.server import HOST, VaultServer, new_path

DATABASE: Final = "app"
GROUP: Final = "app_reader"
"""The role that every minted one is in: it may use all that is in the database's schema public."""
SUPERUSER: Final = "postgres"
CREATE: Final = (
    """CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE """ + GROUP + ";"
)
DROP: Final = 'DROP ROLE IF EXISTS "{{name}}";'
SETTINGS: Final = {
    "listen_addresses": HOST,
    "max_connections": "200",
    "shared_buffers": "16MB",
    # Thrown away after the tests: nothing waits for the disk.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "log_connections": "on",
}


@dataclass(frozen=True)
class Database:
    """Vault's database engine over a PostgreSQL: `mount`, its connection and its first role."""

    mount: str
    connection: str
    role: str
    admin: str
    """The role of PostgreSQL as which Vault works; `rotate_root` changes its password."""
    first_password: str = field(repr=False)

    def path(self, role: str = "") -> str:
        """Where credentials are minted."""
        return f"{self.mount}/creds/{role or self.role}"

    def rotate_root(self, vault: VaultServer) -> None:
        """Let Vault choose a password for `admin` that nobody else knows."""
        vault.write(f"{self.mount}/rotate-root/{self.connection}")


class Postgres:
    """A running one; see `started`. `folder` is its own, for `stop` and `start` keep the data."""

    def __init__(self) -> None:
        # Not pytest's folder: that is closed to the account postgres, and a unix socket's path has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="ks-pg-"))
        self.port = free_port()
        self._password = secrets.token_urlsafe(16)
        self._data = self.folder / "data"
        self._log = self.folder / "postgres.log"
        self._process: Process | None = None

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[Postgres]:
        """A new one with a database `app`; it ends with the block, and its folder goes."""
        server = cls()
        try:
            server._create()
            server.start()
            server._fill()
            yield server
        finally:
            server.stop()
            shutil.rmtree(server.folder)

    @property
    def process(self) -> Process:
        """The one that runs, or ran last."""
        assert self._process is not None, "not started"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [*_as_user(), _program("postgres"), "-D", self._data, *words]
        self._process = Process(command, self._log, own_group=True)
        until(lambda: self.process.alive() and self._answers(), "PostgreSQL answers", explain=self.process.tail)

    def stop(self) -> None:
        """End it and all its connections, in order."""
        if self._process and not self._process.ended:
            self._process.signal(signal.SIGINT)
            self._process.wait()

    def connect(self, user: str, password: str, **settings: Any) -> psycopg.Connection[Any]:
        """A new connection to the database by TCP, that commits each statement. OperationalError where refused."""
        return psycopg.connect(self.dsn(user, password), autocommit=True, **settings)

    def dsn(self, user: str, password: str, database: str = DATABASE) -> str:
        """What libpq connects with."""
        return psycopg.conninfo.make_conninfo(
            host=HOST, port=self.port, user=user, password=password, dbname=database, connect_timeout=10
        )

    def superuser_dsn(self, database: str = DATABASE) -> str:
        """What libpq connects with as a superuser."""
        return self.dsn(SUPERUSER, self._password, database)

    def query(self, statement: str | sql.Composed, *values: object) -> list[tuple[Any, ...]]:
        """What a superuser's statement gives."""
        with self.connect(SUPERUSER, self._password) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def roles(self, prefix: str = "v-") -> list[str]:
        """Names of the roles that can log in; Vault's begin with `v-`."""
        found = self.query("SELECT rolname FROM pg_roles WHERE rolcanlogin AND starts_with(rolname, %s)", prefix)
        return sorted(str(name) for (name,) in found)

    def sessions(self, user: str) -> int:
        """How many connections a role has now."""
        return int(self.query("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", user)[0][0])

    def admin(self) -> tuple[str, str]:
        """A new role that may make others in the group, no superuser: its name and password."""
        name, password = new_path("vault"), secrets.token_urlsafe(16)
        self.query(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
        )
        return name, password

    def enable(self, vault: VaultServer, *, ttl: str = "1h", max_ttl: str = "24h", role: str = "app") -> Database:
        """Vault's database engine at a new path, with an admin of its own and one role with these lifetimes."""
        name, password = self.admin()
        made = Database(vault.enable("database"), "postgres", role, name, password)
        vault.write(
            f"{made.mount}/config/{made.connection}",
            plugin_name="postgresql-database-plugin",
            allowed_roles=["*"],
            connection_url=f"postgresql://{{{{username}}}}:{{{{password}}}}@{HOST}:{self.port}/{DATABASE}?sslmode=disable",
            username=name,
            password=password,
            password_authentication="scram-sha-256",
        )
        self.add_role(vault, made, role, ttl=ttl, max_ttl=max_ttl)
        return made

    def add_role(
        self, vault: VaultServer, database: Database, role: str, *, ttl: str = "1h", max_ttl: str = "24h"
    ) -> None:
        """Another role of the engine, or other lifetimes for one that there is."""
        vault.write(
            f"{database.mount}/roles/{role}",
            db_name=database.connection,
            creation_statements=[CREATE],
            revocation_statements=[DROP],
            default_ttl=ttl,
            max_ttl=max_ttl,
        )

    def _create(self) -> None:
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(self._password)
        if owner := _owner():
            for path in (self.folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        words = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={password}", "--no-sync"]
        command = [*_as_user(), _program("initdb"), *words, "--encoding=UTF8", "--locale=C", str(self._data)]
        made = Process(command, self._log)
        assert made.wait() == 0, made.tail()
        password.unlink()

    def _fill(self) -> None:
        with psycopg.connect(self.dsn(SUPERUSER, self._password, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        self.query(f"CREATE ROLE {GROUP} NOLOGIN")
        self.query(f"GRANT ALL ON SCHEMA public TO {GROUP}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(SUPERUSER, self._password, "postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


def _owner() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as, which refuses root; None for the user who runs the tests."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _as_user() -> list[str | Path]:
    owner = _owner()
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []


def _program(name: str) -> Path:
    found = postgres_program(name)
    assert found is not None, lacks_postgres()
    return found
