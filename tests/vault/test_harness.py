"""What the harness promises, against the real Vault, PostgreSQL and API server: other tests build on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import hvac
import psycopg
import pytest
import requests
from hvac.exceptions import Forbidden, InvalidPath, InvalidRequest, VaultDown

from tests.apiserver.harness.cluster import Cluster
from tests.apiserver.harness.objects import pod
from tests.apiserver.harness.waiting import until
from tests.vault.harness import flaky as faults
from tests.vault.harness.flaky import Fault, Flaky
from tests.vault.harness.logins import AppRoleAuth, JwtAuth, KubernetesAuth
from tests.vault.harness.postgres import Postgres
from tests.vault.harness.server import ACTIVE, STOPPED, VaultServer

SUBJECT = "system:serviceaccount:shop:web"


def value(client: hvac.Client, kv: str) -> str:
    """The password in the secret `app`."""
    answer = client.read(f"{kv}/data/app")
    assert isinstance(answer, dict)
    return str(answer["data"]["data"]["password"])


# The server


def test_a_policy_gives_a_token_one_path_and_no_other(vault: VaultServer, kv: str) -> None:
    for name in ("app", "other"):
        vault.write(f"{kv}/data/{name}", data={"password": "one"})
    policy = vault.policy(f"{kv}/data/app: read")
    client = vault.client(vault.token(policy))
    assert value(client, kv) == "one"
    with pytest.raises(Forbidden):
        client.read(f"{kv}/data/other")
    vault.set_policy(policy)
    with pytest.raises(Forbidden):
        client.read(f"{kv}/data/app")


def test_the_audit_log_tells_reads_of_values_from_reads_of_metadata(vault: VaultServer, kv: str) -> None:
    vault.write(f"{kv}/data/app", data={"password": "never-in-the-log"})
    client = vault.client(vault.token(vault.policy(f"{kv}/*: read")))
    since = vault.audit.mark()
    client.read(f"{kv}/data/app")
    for _ in range(3):
        client.read(f"{kv}/metadata/app")
    with pytest.raises(Forbidden):
        client.write_data(f"{kv}/data/app", data={"data": {}})
    assert len(vault.audit.requests(f"{kv}/data/", since=since)) == 2
    assert [one.operation for one in vault.audit.requests(f"{kv}/metadata/")] == ["read"] * 3
    assert [one.error != "" for one in vault.audit.requests(f"{kv}/")] == [False] * 4 + [True]
    assert {one.operation for one in vault.audit.requests(f"{kv}/data/", roots=True)} >= {"create", "read"}
    assert "never-in-the-log" not in vault.audit.file.read_text()


def test_a_sealed_server_refuses_and_keeps_its_data(own_vault: VaultServer) -> None:
    kv = own_vault.enable("kv", version="2")
    own_vault.write(f"{kv}/data/app", data={"password": "one"})
    own_vault.seal()
    with pytest.raises(VaultDown):
        own_vault.read(f"{kv}/data/app")
    own_vault.unseal()
    assert value(own_vault.root, kv) == "one"


def test_a_server_that_is_killed_comes_back_at_its_address_with_its_data(own_vault: VaultServer) -> None:
    kv = own_vault.enable("kv", version="1")
    own_vault.write(f"{kv}/app", password="one")
    own_vault.kill()
    assert own_vault.state() == STOPPED
    own_vault.start()
    assert own_vault.read(f"{kv}/app")["data"] == {"password": "one"}
    own_vault.stop()
    own_vault.start(unseal=False)
    with pytest.raises(VaultDown):
        own_vault.read(f"{kv}/app")
    own_vault.unseal()
    assert own_vault.read(f"{kv}/app")["data"] == {"password": "one"}


def test_a_paused_server_takes_connections_and_does_not_answer(own_vault: VaultServer) -> None:
    own_vault.pause()
    with pytest.raises(requests.Timeout):
        requests.get(f"{own_vault.url}/v1/sys/health", verify=str(own_vault.ca_file), timeout=0.1)
    own_vault.resume()
    assert own_vault.state() == ACTIVE


def test_a_server_shows_another_certificate_once_it_reads_its_files_again(own_vault: VaultServer) -> None:
    chain, key = own_vault.certificates.server("elsewhere", "elsewhere.example")
    own_vault.certificate.write_bytes(chain.read_bytes())
    own_vault.key.write_bytes(key.read_bytes())
    assert own_vault.state() == ACTIVE
    own_vault.reload()

    def refused() -> bool:
        try:
            requests.get(f"{own_vault.url}/v1/sys/health", verify=str(own_vault.ca_file), timeout=30)
        except requests.exceptions.SSLError as why:
            return "not valid for" in str(why)
        return False

    until(refused, "the new certificate is shown")


# PostgreSQL


def test_a_minted_role_works_until_its_lease_is_revoked(vault: VaultServer, postgres: Postgres) -> None:
    database = postgres.enable(vault)
    database.rotate_root(vault)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        postgres.connect(database.admin, database.first_password)
    made = vault.read(database.path())
    name, password = made["data"]["username"], made["data"]["password"]
    with postgres.connect(name, password) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (name,)
        assert postgres.sessions(name) == 1
    assert name in postgres.roles()
    assert vault.leases(database.path()) == [made["lease_id"]]
    vault.revoke(made["lease_id"])
    assert name not in postgres.roles()
    assert vault.leases(database.path()) == []
    with pytest.raises(psycopg.OperationalError):
        postgres.connect(name, password)


def test_the_audit_log_counts_leases(vault: VaultServer, postgres: Postgres) -> None:
    database = postgres.enable(vault, ttl="1m", max_ttl="2m")
    client = vault.client(vault.token(vault.policy(f"{database.mount}/creds/*: read")))
    for _ in range(2):
        client.read(database.path())
    leases = vault.leases(database.path())
    assert {one.lease for one in vault.audit.requests(database.path())} == set(leases)
    assert len(leases) == 2
    for lease in leases:
        vault.revoke(lease)


# Logins


def test_a_pods_token_logs_in_where_account_namespace_and_audience_are_right(
    vault: VaultServer, cluster: Cluster, kv: str
) -> None:
    cluster.namespace("shop").apply(pod("web-1"))
    auth = KubernetesAuth(vault, cluster)
    policy = vault.policy(f"{kv}/data/app: read")
    auth.add_role("web", "shop", "default", policy)
    got = auth.login("web", cluster.token("shop", "default", audience="vault", pod="web-1"))
    assert policy in got.policies
    vault.write(f"{kv}/data/app", data={"password": "one"})
    assert value(vault.client(got.token), kv) == "one"
    with pytest.raises(Forbidden):
        auth.login("web", cluster.token("shop", "default", pod="web-1"))
    cluster.account("shop", "other")
    with pytest.raises(Forbidden):
        auth.login("web", cluster.token("shop", "other", audience="vault"))
    assert sum(one.is_login for one in vault.audit.requests(f"auth/{auth.mount}/login")) == 1


def test_a_signed_token_logs_in_until_its_key_is_trusted_no_more(vault: VaultServer, jwt: JwtAuth) -> None:
    jwt.add_role("web", SUBJECT, "default", token_ttl="1m")
    token = jwt.token(SUBJECT)
    got = jwt.login("web", token)
    assert (got.ttl_s, got.is_renewable) == (60, True)
    since = vault.audit.mark()
    vault.client(got.token).adapter.post("/v1/auth/token/renew-self")
    assert [(one.path, one.is_login) for one in vault.audit.requests(since=since)] == [("auth/token/renew-self", False)]
    for bad in (jwt.token("other"), jwt.token(SUBJECT, audience="other"), jwt.token(SUBJECT, lives_s=-600)):
        with pytest.raises((Forbidden, InvalidRequest)):
            jwt.login("web", bad)
    jwt.trust_key(new=True)
    with pytest.raises((Forbidden, InvalidRequest)):
        jwt.login("web", token)
    jwt.login("web", jwt.token(SUBJECT))
    tried = vault.audit.requests(f"auth/{jwt.mount}/login")
    assert [(one.is_login, one.error != "") for one in tried] == [(True, False)] + [(False, True)] * 4 + [(True, False)]


def test_an_approle_logs_in_as_often_as_its_secret_id_says(vault: VaultServer) -> None:
    auth = AppRoleAuth(vault)
    role_id = auth.add_role("web", "default", secret_id_num_uses=1)
    secret_id = auth.secret_id("web")
    assert "default" in auth.login(role_id, secret_id).policies
    with pytest.raises(InvalidRequest):
        auth.login(role_id, secret_id)


# The proxy


@pytest.fixture
def get(flaky: Flaky, vault: VaultServer, kv: str) -> Callable[..., requests.Response]:
    """Reads the secret `app` through the proxy; keywords go to requests."""
    vault.write(f"{kv}/data/app", data={"password": "one" * 2000})
    headers = {"X-Vault-Token": vault.root_token}

    def ask(**settings: object) -> requests.Response:
        given: dict[str, object] = {"headers": headers, "verify": str(vault.ca_file), "timeout": 30} | settings
        return requests.get(f"{flaky.url}/v1/{kv}/data/app", **given)  # type: ignore[arg-type]

    return ask


def test_the_proxy_passes_on_what_vault_says(flaky: Flaky, get: Callable[..., requests.Response], kv: str) -> None:
    answer = get()
    assert (answer.status_code, answer.json()["data"]["data"]["password"]) == (200, "one" * 2000)
    assert get(headers={}).status_code == 403
    assert [(one.method, one.path, one.became) for one in flaky.seen] == [("GET", f"/v1/{kv}/data/app", "passed")] * 2
    assert flaky.connections == 2


@pytest.mark.parametrize("status", [403, 404, 429, 500, 502, 503])
def test_the_proxy_answers_any_status(flaky: Flaky, get: Callable[..., requests.Response], status: int) -> None:
    with flaky.failing(faults.answers(status, "as a test", retry_after="7")):
        answer = get()
    assert (answer.status_code, answer.json()) == (status, {"errors": ["as a test"]})
    assert answer.headers["Retry-After"] == "7"
    assert get().status_code == 200
    assert flaky.count(became=f"answers {status}") == 1


def test_a_fault_is_for_some_paths_or_some_times(flaky: Flaky, get: Callable[..., requests.Response]) -> None:
    with flaky.failing(faults.sealed(), on="/metadata/"):
        assert get().status_code == 200
    with flaky.failing(faults.sealed(), times=2):
        assert [get().status_code for _ in range(3)] == [503, 503, 200]


def test_a_standby_sends_its_callers_to_the_leader(
    flaky: Flaky, get: Callable[..., requests.Response], vault: VaultServer, kv: str
) -> None:
    with flaky.failing(faults.standby(vault.url)):
        answer = get(allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, f"{vault.url}/v1/{kv}/data/app")


@pytest.mark.parametrize("fault", [faults.resets(), faults.half_a_body()], ids=lambda fault: str(fault.name))
def test_a_broken_connection_is_an_error_of_the_connection(
    flaky: Flaky, get: Callable[..., requests.Response], fault: Fault
) -> None:
    with flaky.failing(fault), pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        get()
    assert get().status_code == 200


def test_half_a_body_has_a_head_that_says_all_is_well(flaky: Flaky, get: Callable[..., requests.Response]) -> None:
    whole = len(get().content)
    with flaky.failing(faults.half_a_body()):
        answer = get(stream=True)
        with answer:
            assert (answer.status_code, int(answer.headers["Content-Length"])) == (200, whole)


def test_an_answer_may_be_no_json(flaky: Flaky, get: Callable[..., requests.Response]) -> None:
    with flaky.failing(faults.garbles()), pytest.raises(requests.exceptions.JSONDecodeError):
        get().json()


def test_a_late_answer_and_none_at_all_run_into_a_timeout(flaky: Flaky, get: Callable[..., requests.Response]) -> None:
    with flaky.failing(faults.silent()), pytest.raises(requests.Timeout):
        get(timeout=0.1)
    with flaky.failing(faults.delays(30)), pytest.raises(requests.Timeout):
        get(timeout=0.1)
    with flaky.failing(faults.delays(0.05)):
        began = time.monotonic()
        assert get().status_code == 200
        assert time.monotonic() - began >= 0.05


def test_a_closed_door_refuses_and_opens_again(flaky: Flaky, get: Callable[..., requests.Response]) -> None:
    with flaky.refusing(), pytest.raises(requests.ConnectionError, match="refused"):
        get()
    assert get().status_code == 200


def test_vault_itself_may_be_away_behind_the_proxy(own_vault: VaultServer) -> None:
    with Flaky.before(own_vault) as proxy:
        own_vault.kill()
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{proxy.url}/v1/sys/health", verify=str(own_vault.ca_file), timeout=30)
        own_vault.start()
        answer = requests.get(f"{proxy.url}/v1/sys/health", verify=str(own_vault.ca_file), timeout=30)
        assert answer.status_code == 200


def test_the_proxy_shows_the_certificate_that_it_is_given(vault: VaultServer) -> None:
    shown = vault.certificates.server("elsewhere", "elsewhere.example")
    with Flaky.before(vault, certificate=shown) as proxy, pytest.raises(requests.exceptions.SSLError) as refused:
        requests.get(f"{proxy.url}/v1/sys/health", verify=str(vault.ca_file), timeout=30)
    assert "not valid for" in str(refused.value)


def test_a_path_where_nothing_is_has_its_own_error(vault: VaultServer, kv: str) -> None:
    with pytest.raises(InvalidPath):
        vault.read(f"{kv}/data/nothing")
