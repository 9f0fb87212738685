"""`kernelsecret-ctl run` over the real Vault: each way to log in, each kind of secret, and what is left afterwards."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import hvac
import psycopg
import pytest

from tests.unit.cli.run.commanded import Commanded, commanded, ran
from tests.unit.cli.run.supervised import memory, python, until
from tests.vault.doors import SUBJECT
from tests.vault.harness.logins import AppRoleAuth, JwtAuth
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.server import VaultServer

REVOKE: Final = "sys/leases/revoke: update"
TELL: Final = """
import os, signal, sys
def tell(*_): print(*(open(os.environ[name]).read() for name in sorted(os.environ) if name.startswith("S_")))
signal.signal(signal.SIGHUP, tell)
tell()
sys.stdin.readline()
"""
"""A COMMAND that opens its secrets when it starts and at each SIGHUP, until it is told to end."""


def where(vault: VaultServer, token: str = "") -> dict[str, str]:
    """Vault as a user's environment has it."""
    found = {"VAULT_ADDR": vault.url, "VAULT_CACERT": str(vault.ca_file)}
    return found | ({"VAULT_TOKEN": token} if token else {})


@contextmanager
def telling(*options: str | Path, **variables: str) -> Iterator[Commanded]:
    with commanded(*options, "--", *python(TELL), **variables) as one:
        yield one


def may_read(vault: VaultServer, kv: str, *rules: str, **settings: str) -> str:
    """A token for everything in an engine."""
    return vault.token(vault.policy(f"{kv}/*: read", "auth/token/renew-self: update", *rules), **settings)


def lives(vault: VaultServer, token: str) -> bool:
    """Whether Vault knows the token."""
    try:
        vault.client(token).adapter.get("/v1/auth/token/lookup-self")
    except hvac.exceptions.Forbidden as error:
        return "invalid token" not in str(error)
    return True


def can_connect(postgres: Postgres, line: str) -> bool:
    try:
        postgres.connect(*line.split()[::-1]).close()
    except psycopg.OperationalError:
        return False
    return True


def test_values_of_both_versions_of_kv_and_of_a_pinned_one(vault: VaultServer, kv: str) -> None:
    old = vault.enable("kv", version="1")
    vault.write(f"{old}/app", password="v1")
    for value in ("first", "second"):
        vault.write(f"{kv}/data/app", data={"password": value, "user": "me"})
    token = vault.token(vault.policy(f"{kv}/*: read", f"{old}/*: read"))
    done = ran(
        "--", "sh", "-c", 'cat "$A" "$B" "$C" "$D"; env',
        A=f"vault:{kv}/data/app#password", B=f"vault:{kv}/data/app?version=1#password", C=f"vault:{old}/app#password",
        D=f"vault:{kv}/data/app#user", **where(vault, token),
    )  # fmt: skip
    assert done.stderr == ""
    values, *environment = done.stdout.splitlines()
    assert values.startswith("secondfirstv1me")
    assert not [line for line in environment if line.startswith("VAULT_TOKEN")]
    assert [line for line in environment if line == f"VAULT_ADDR={vault.url}"]
    assert lives(vault, token), "the user's own token is the user's to end"


def test_a_changed_secret_is_told_and_seen_by_who_opens_it_again(vault: VaultServer, kv: str) -> None:
    vault.write(f"{kv}/data/app", data={"a": "a1", "b": "b1"})
    variables = {"S_A": f"vault:{kv}/data/app#a", "S_B": f"vault:{kv}/data/app#b"}
    token = may_read(vault, kv)
    with telling("--on-change", "signal:HUP", "--poll-interval", "100ms", **variables, **where(vault, token)) as one:
        assert one.says.line() == "a1 b1"
        vault.write(f"{kv}/data/app", data={"a": "a2", "b": "b2"})
        assert one.says.line() == "a2 b2"
        vault.write(f"{kv}/data/app", data={"a": "a3"})
        assert "there is no key 'b'; there is 'a'; the last version stays" in one.warns.line()
        vault.write(f"{kv}/data/app", data={"a": "a4", "b": "b2"})
        assert one.says.line() == "a4 b2"
        one.tell()
        assert one.status() == 0


def test_the_token_is_in_no_process_that_the_command_may_look_into(vault: VaultServer, kv: str) -> None:
    vault.write(f"{kv}/data/app", data={"a": "the-secret-value"})
    token = may_read(vault, kv)
    script = "print('ready'); import sys; sys.stdin.readline()"
    with commanded("--", *python(script), A=f"vault:{kv}/data/app#a", **where(vault, token)) as one:
        assert one.says.line() == "ready"
        children = Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()
        for pid in (one.pid, *(int(pid) for pid in children if int(pid) != one.resolver)):
            for text in (memory(pid), *(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))):
                assert token.encode() not in text
                assert b"the-secret-value" not in text
        one.tell()
        assert one.status() == 0
        assert one.warns.text == ""


def test_the_token_of_vault_login_is_found_and_kept_alive(vault: VaultServer, kv: str, tmp_path: Path) -> None:
    vault.write(f"{kv}/data/app", data={"a": "1"})
    token = may_read(vault, kv, "auth/token/lookup-self: read", ttl="5s")
    (tmp_path / ".vault-token").write_text(token)
    since = vault.audit.mark()
    with telling(
        "--on-change", "signal:HUP", "--poll-interval", "100ms", S_A=f"vault:{kv}/data/app#a", HOME=str(tmp_path),
        **where(vault),
    ) as one:  # fmt: skip
        assert one.says.line() == "1"
        until(lambda: vault.audit.requests("auth/token/renew-self", since=since), "it is renewed")
        vault.write(f"{kv}/data/app", data={"a": "2"})
        assert one.says.line() == "2"


def test_a_role_logs_in_once_and_its_token_ends_with_the_command(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> None:
    vault.write(f"{kv}/data/app", data={"a": "1"})
    jwt.add_role("app", SUBJECT, vault.policy(f"{kv}/*: read"))
    file = tmp_path / "token"
    file.write_text(jwt.token(SUBJECT))
    since = vault.audit.mark()
    login = ("--vault-role", "app", "--vault-auth", "jwt", "--vault-mount", jwt.mount, "--vault-jwt-file", file)
    done = ran(*login, "--", "sh", "-c", 'cat "$A"', A=f"vault:{kv}/data/app#a", **where(vault))
    assert (done.stdout, done.stderr, done.returncode) == ("1", "", 0)
    asked = [one.path for one in vault.audit.requests(since=since)]
    assert asked.count(f"auth/{jwt.mount}/login") == 1
    assert asked.count("auth/token/revoke-self") == 1


def test_an_approle_logs_in_by_its_files(vault: VaultServer, kv: str, tmp_path: Path) -> None:
    vault.write(f"{kv}/data/app", data={"a": "1"})
    auth = AppRoleAuth(vault)
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "role-id").write_text(auth.add_role("app", vault.policy(f"{kv}/*: read")))
    (folder / "secret-id").write_text(auth.secret_id("app"))
    login = ("--vault-approle", folder, "--vault-mount", auth.mount)
    done = ran(*login, "--", "sh", "-c", 'cat "$A"', A=f"vault:{kv}/data/app#a", **where(vault))
    assert (done.stdout, done.stderr, done.returncode) == ("1", "", 0)
    (folder / "secret-id").write_text("no-such-id")
    done = ran(*login, "--", "true", A=f"vault:{kv}/data/app#a", **where(vault))
    assert done.returncode == 125
    assert "--vault-approle: Vault does not take the ids of 'app'" in done.stderr


@pytest.mark.parametrize("end", ["command ends", "supervisor is killed"])
def test_credentials_of_a_database_end_with_the_command_however_that_ends(
    vault: VaultServer, postgres: Postgres, end: str
) -> None:
    database = postgres.enable(vault)
    token = vault.token(vault.policy(f"{database.path()}: read", REVOKE))
    variables = {"S_PASSWORD": f"vault:{database.path()}#password", "S_USER": f"vault:{database.path()}#username"}
    with telling(**variables, **where(vault, token)) as one:
        line = one.says.line()
        assert can_connect(postgres, line)
        assert len(vault.leases(database.path())) == 1
        if end == "command ends":
            one.tell()
            assert one.status() == 0
        else:
            one.process.send_signal(signal.SIGKILL)
            until(lambda: not vault.leases(database.path()), "the lease is revoked")
    assert vault.leases(database.path()) == []
    assert not can_connect(postgres, line)
    assert lives(vault, token)


def test_before_credentials_end_the_command_is_started_again_with_new_ones(
    vault: VaultServer, postgres: Postgres
) -> None:
    database = postgres.enable(vault, ttl="3s", max_ttl="3s")
    token = vault.token(vault.policy(f"{database.path()}: read", REVOKE))
    variables = {"S_PASSWORD": f"vault:{database.path()}#password", "S_USER": f"vault:{database.path()}#username"}
    with telling("--on-change", "restart", **variables, **where(vault, token)) as one:
        first, second = one.says.line(), one.says.line()
        assert first.split() != second.split()
        assert can_connect(postgres, second)
        one.tell()
        assert one.status() == 0
    assert vault.leases(database.path()) == []


def test_a_given_token_that_nears_its_end_makes_no_new_credentials(vault: VaultServer, postgres: Postgres) -> None:
    database = postgres.enable(vault)
    rules = (f"{database.path()}: read", "auth/token/lookup-self: read", "auth/token/renew-self: update")
    token = vault.token(vault.policy(*rules), ttl="5s", explicit_max_ttl="5s")
    since = vault.audit.mark()
    with telling(S_USER=f"vault:{database.path()}#username", **where(vault, token)) as one:
        one.says.line()
        # It cannot be kept alive: it is looked at again and again, and there is no other one.
        until(lambda: len(vault.audit.requests("auth/token/lookup-self", since=since)) > 1, "it was looked at again")
        assert len([one for one in vault.audit.requests(database.path(), since=since) if not one.error]) == 1


def test_while_vault_is_away_the_last_value_stays_and_afterwards_the_new_one_comes(own_vault: VaultServer) -> None:
    kv = own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/app", data={"a": "1"})
    variables = {"S_A": f"vault:{kv}/data/app#a", **where(own_vault, may_read(own_vault, kv))}
    with telling("--on-change", "signal:HUP", "--poll-interval", "100ms", **variables) as one:
        assert one.says.line() == "1"
        own_vault.kill()
        assert "Vault is away:" in one.warns.line()
        one.process.send_signal(signal.SIGHUP)
        assert one.says.line() == "1"
        own_vault.start()
        own_vault.write(f"{kv}/data/app", data={"a": "2"})
        assert one.says.line() == "2"
        assert "Vault serves again" in one.warns.text + one.warns.line()


def test_what_vault_does_not_give_starts_nothing_and_is_said_by_variable_and_remedy(
    vault: VaultServer, kv: str
) -> None:
    vault.write(f"{kv}/data/app", data={"a": "1"})
    token = may_read(vault, kv)
    bad = {
        "GONE": f"vault:{kv}/data/no-such#a",
        "KEY": f"vault:{kv}/data/app#nothing",
        "OTHER": "vault:no-such-engine/data/app#a",
        "PATH_": f"vault:{kv}/app#a",
    }
    done = ran("--", "echo", "ran", GOOD=f"vault:{kv}/data/app#a", **bad, **where(vault, token))
    assert (done.stdout, done.returncode) == ("", 125)
    assert f"KEY (vault:{kv}/data/app#nothing): there is no key 'nothing'; there is 'a'\n" in done.stderr
    assert f"GONE (vault:{kv}/data/no-such#a): there is nothing at" in done.stderr
    assert "OTHER (vault:no-such-engine/data/app#a): Vault forbids" in done.stderr
    assert f"are read below {kv}/data/; write vault:{kv}/data/app#KEY\n" in done.stderr
    assert token not in done.stderr
    done = ran("--", "echo", "ran", A=f"vault:{kv}/data/app#a", **where(vault, "hvs.nobodys"))
    assert (done.stdout, done.returncode) == ("", 125)
    assert "#a): token: Vault does not know it, or it has ended; bring another one\n" in done.stderr
    assert "hvs.nobodys" not in done.stderr


def test_check_says_which_versions_there_are_and_leaves_nothing_behind(
    vault: VaultServer, postgres: Postgres, kv: str
) -> None:
    database = postgres.enable(vault)
    vault.write(f"{kv}/data/app", data={"a": "the-secret-value"})
    token = may_read(vault, kv, f"{database.path()}: read", REVOKE)
    references = {"A": f"vault:{kv}/data/app#a", "B": f"vault:{database.path()}#username"}
    done = ran("--check", "-o", "json", **references, **where(vault, token))
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert (first["name"], first["reference"], first["found"]) == ("A", references["A"], True)
    assert "1" in first["version"]
    assert second["found"]
    assert "the-secret-value" not in done.stdout
    assert vault.leases(database.path()) == []
