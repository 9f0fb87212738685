"""What the real Vault Agent shows in mode `vault-agent` of each of Vault's engines, and when it shows it anew."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.apiserver.harness.waiting import until
from tests.vault.agent_pods import file, files, interceptor, may, rotate, running, secret
from tests.vault.harness.agent_pod import AgentPod
from tests.vault.harness.logins import JwtAuth
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.server import VaultServer


def test_a_version_that_is_pinned_stays(vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path) -> None:
    for value in ("one", "two"):
        rotate(vault, kv, password=value)
    token = may(vault, jwt, f"{kv}/data/*: read")
    wanted = interceptor(
        secret(jwt, f"{kv}/data/db", file("pinned", "password"), version=1),
        secret(jwt, f"{kv}/data/db", file("newest", "password"), name="newest"),
    )
    with running(tmp_path / "pod", vault, token, wanted) as made:
        made.sidecar()
        made.wait_for("newest", b"two")
        rotate(vault, kv, password="three")
        made.wait_for("newest", b"three")
        assert made.shows("pinned") == b"one"


def test_kv_v1_is_looked_at_as_often_as_its_mount_says(vault: VaultServer, jwt: JwtAuth, tmp_path: Path) -> None:
    kv1 = vault.enable("kv", version="1")
    vault.write(f"sys/mounts/{kv1}/tune", default_lease_ttl="1s")
    vault.write(f"{kv1}/db", data="first", metadata="no wrapping")
    token = may(vault, jwt, f"{kv1}/*: read")
    with running(tmp_path / "pod", vault, token, interceptor(secret(jwt, f"{kv1}/db", file("data")))) as made:
        made.sidecar()
        made.wait_for("data", b"first")
        vault.write(f"{kv1}/db", data="second")
        made.wait_for("data", b"second", 10)


def test_database_credentials_are_renewed_and_made_anew_when_they_end(
    vault: VaultServer, postgres: Postgres, jwt: JwtAuth, tmp_path: Path
) -> None:
    database = postgres.enable(vault, ttl="2s", max_ttl="5s")
    token = may(vault, jwt, f"{database.path()}: read", "sys/leases/renew: update")
    wanted = interceptor(
        secret(jwt, database.path(), *files("username", "password"), file("both", template="{{username}}:{{password}}"))
    )
    with running(tmp_path / "pod", vault, token, wanted) as made:
        made.sidecar()
        until(lambda: made.shows("both"), "credentials are there")
        first = made.shows("both")
        assert first is not None
        until(lambda: made.shows("both") != first, "other credentials are there")

        def logs_in() -> bool:
            user, password = (made.shows("both") or b":").decode().split(":")
            try:
                postgres.connect(user, password).close()
            except psycopg.OperationalError:
                return False
            return (made.shows("username"), made.shows("password")) == (user.encode(), password.encode())

        until(logs_in, "the files are of credentials that hold")


def test_a_certificate_goes_with_its_key_and_is_made_anew_before_it_ends(
    vault: VaultServer, jwt: JwtAuth, tmp_path: Path
) -> None:
    pki = vault.enable("pki")
    vault.write(f"{pki}/root/generate/internal", common_name="root", ttl="1h")
    vault.write(f"{pki}/roles/web", allowed_domains="test", allow_subdomains=True, key_type="ec", key_bits=256)
    token = may(vault, jwt, f"{pki}/issue/web: create, update")
    shown = [file("tls.crt", "certificate"), file("tls.key", "private_key")]
    shown.append(file("bundle", template="{{ certificate | trim }}\n{{ ca_chain | lines }}\n"))
    parameters = {"common_name": "api.test", "ttl": "4s"}
    wanted = interceptor(secret(jwt, f"{pki}/issue/web", *shown, parameters=parameters))
    with running(tmp_path / "pod", vault, token, wanted) as made:
        made.sidecar()
        until(lambda: made.shows("bundle"), "the certificate is there")
        assert _pair(made)
        first = made.shows("tls.crt")
        until(lambda: made.shows("tls.crt") != first, "another certificate is there")
        until(lambda: _pair(made), "its key is there too")


def _pair(made: AgentPod) -> bool:
    """Whether certificate, key and bundle are of one answer."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate, key = made.shows("tls.crt") or b"", made.shows("tls.key") or b""
    same = x509.load_pem_x509_certificate(certificate).public_key() == load_pem_private_key(key, None).public_key()
    return same and (made.shows("bundle") or b"").startswith(certificate)


def test_all_keys_of_a_secret_are_shown_also_where_no_file_names_one(
    vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path
) -> None:
    rotate(vault, kv, b="2", a="1")
    token = may(vault, jwt, f"{kv}/data/*: read")
    wanted = interceptor(secret(jwt, f"{kv}/data/db", file("all", template="{{ . | json }}")))
    with running(tmp_path / "pod", vault, token, wanted) as made:
        init = made.init()
        assert init.wait() == 0, init.tail()
        assert made.shows("all") == b'{"a":"1","b":"2"}'


def test_a_version_that_was_destroyed_is_no_secret(vault: VaultServer, kv: str, jwt: JwtAuth, tmp_path: Path) -> None:
    rotate(vault, kv, password="first")
    vault.write(f"{kv}/destroy/db", versions=[1])
    token = may(vault, jwt, f"{kv}/data/*: read")
    with running(tmp_path / "pod", vault, token, interceptor(secret(jwt, f"{kv}/data/db", file("password")))) as made:
        init = made.init()
        assert init.wait() == 1
        assert "file 'password': the secret has no keys" in init.said()
        assert list(made.files.iterdir()) == []
