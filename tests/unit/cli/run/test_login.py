"""How `run` comes to Vault: the variables of Vault's own command line, and what is said where they cannot be used."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from agent.sources.vault import settings as agents
from agent.vault_ref import request_of
from kernelsecret.cli.run.login import Login, Options, audience_of, in_our_words, login_of, subject_of
from kernelsecret.cli.run.references import Reference
from kernelsecret.errors import Refused
from kernelsecret.interceptor import VaultMethod
from kernelsecret.problems import Invalid

TOKEN = "hvs.of-nobody"
DB = Reference("A", "vault", "secret/data/db", "password", 3)
CLAIMS = {"sub": "system:serviceaccount:shop:web", "aud": ["vault"]}


def jwt(claims: object) -> str:
    """As it is signed by nobody."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{body}.c2lnbmF0dXJl"


def token_of(login: Login) -> str:
    identity = request_of(login.ref(DB)).identity
    return login.credentials.token(identity.reader, identity.audience).token


def test_a_token_of_the_environment_is_used_as_it_is() -> None:
    login = login_of({"VAULT_TOKEN": TOKEN, "VAULT_NAMESPACE": "team/", "HOME": "/nonexistent"}, Options())
    request = request_of(login.ref(DB))
    assert token_of(login) == TOKEN
    assert (request.identity.method, str(request.identity), request.identity.namespace) == (None, "the token", "team")
    assert (request.source.path, request.source.version) == ("secret/data/db", 3)
    assert login.settings.address == "https://127.0.0.1:8200"
    assert TOKEN not in repr(login)


def test_without_one_the_token_that_vault_login_left_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / ".vault-token"
    file.write_text(f"{TOKEN}\n")
    login = login_of({"HOME": str(tmp_path)}, Options())
    assert token_of(login) == TOKEN
    file.write_text("hvs.another")
    assert token_of(login) == "hvs.another"


def test_a_role_logs_in_with_the_account_token_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(jwt(CLAIMS))
    login = login_of({}, Options(role="app", method=VaultMethod.JWT, mount="jwt-1", jwt_file=file))
    identity = request_of(login.ref(DB)).identity
    assert (identity.method, identity.mount, identity.role) == (VaultMethod.JWT, "jwt-1", "app")
    assert identity.reader == "shop/web"
    file.write_text(jwt({}))
    assert token_of(login) == jwt({})


def test_an_approle_is_a_folder_with_its_ids(tmp_path: Path) -> None:
    login = login_of({}, Options(approle=tmp_path / "app"))
    identity = request_of(login.ref(DB)).identity
    assert (identity.method, identity.mount, identity.credential) == (VaultMethod.APP_ROLE, "approle", "app")
    assert login.settings.approle_dir == tmp_path


@pytest.mark.parametrize(
    ("token", "subject"),
    [
        (jwt(CLAIMS), ("shop", "web")),
        (jwt({"sub": "somebody@example.com"}), ("user", "somebody@example.com")),
        (jwt({}), ("user", "token")),
        (jwt([]), ("unknown", "token")),
        ("a.b.c", ("unknown", "token")),
        ("", ("unknown", "token")),
        ("a.\u00e9.c", ("unknown", "token")),
    ],
)
def test_whose_a_token_is_is_said_where_it_says_so(token: str, subject: tuple[str, str]) -> None:
    assert subject_of(token) == subject


@pytest.mark.parametrize(
    ("claim", "audience"), [("https://a", "https://a"), (["b", "c"], "b"), ([], "vault"), (7, "vault")]
)
def test_whom_a_token_is_for_is_said_where_it_says_so(claim: object, audience: str) -> None:
    assert audience_of(jwt({"aud": claim})) == audience


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"VAULT_ADDR": "http://vault.example.com"}, "VAULT_ADDR: 'http://vault.example.com' would send tokens"),
        ({"VAULT_ADDR": "vault.example.com"}, "VAULT_ADDR: is not https://HOST[:PORT]"),
        ({"VAULT_SKIP_VERIFY": "true"}, "VAULT_SKIP_VERIFY: is set, and Vault's certificate is always verified"),
        ({"VAULT_CAPATH": "/etc/ssl"}, "VAULT_CAPATH: is a folder of authorities"),
        ({"VAULT_CLIENT_CERT": "/x.pem"}, "VAULT_CLIENT_KEY: certificate and key come together"),
        ({"VAULT_NAMESPACE": "a/../b"}, "VAULT_NAMESPACE: 'a/../b' is not a plain path"),
        ({"VAULT_TOKEN": ""}, "VAULT_TOKEN: is not set, and there is no /nonexistent/.vault-token; run `vault login`"),
        ({"VAULT_TOKEN": "two words"}, "VAULT_TOKEN: is empty or no token"),
    ],
)
def test_a_setting_of_vault_that_cannot_be_used_is_named(variables: dict[str, str], said: str) -> None:
    with pytest.raises((Refused, Invalid)) as refused:
        login_of({"VAULT_TOKEN": TOKEN, "HOME": "/nonexistent"} | variables, Options())
    assert said in str(refused.value)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(role="a b", jwt_file=Path("/etc/hostname")), "--vault-role: 'a b' is not the name of a role"),
        (
            Options(role="app", mount="auth/jwt", jwt_file=Path("/etc/hostname")),
            "--vault-mount: 'auth/jwt' begins with 'auth/'",
        ),
        (Options(role="app", jwt_file=Path("/nonexistent/token")), "/nonexistent/token: cannot be read"),
        (Options(mount="jwt"), "--vault-mount: is where to log in, and nothing says as whom; add --vault-role"),
        (Options(role="app", approle=Path("/x")), "--vault-role: goes with a token, and --vault-approle is given"),
        (Options(approle=Path("/etc/..x")), "--vault-approle: '..x' is '.' or starts with '..'"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options: Options, said: str) -> None:
    with pytest.raises((Refused, Invalid)) as refused:
        login_of({"VAULT_TOKEN": TOKEN}, options)
    assert said in str(refused.value)


def test_what_the_agents_parts_say_has_the_names_that_things_have_here() -> None:
    said = in_our_words(f"source.vault.auth.mount: is {agents.CA_FILE} not Vault's authority?")
    assert said == "--vault-mount: is VAULT_CACERT not Vault's authority?"
