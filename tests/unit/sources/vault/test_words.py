"""Settings, records and words: what is refused before Vault is asked, and what is never shown."""

from __future__ import annotations

import json
import math
import urllib.parse
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.vault.answers import Answer, Auth
from agent.sources.vault.errors import AWAY, Kind, VaultError, said_by_vault
from agent.sources.vault.login_refusal import login_refusal
from agent.sources.vault.mounts import Mounts
from agent.sources.vault.replies import health_problem, outage, refusal, retry_after_s
from agent.sources.vault.reply_parser import Reply
from agent.sources.vault.request import Request, api_path
from agent.sources.vault.settings import VaultSettings
from agent.sources.vault.token_record import (
    Record,
    granted,
    is_capped,
    packed,
    renewed,
    safe_name,
    unpacked,
)
from agent.vault_ref import Identity
from kernelsecret.errors import Code, Refused
from kernelsecret.interceptor import VaultMethod

WHO = Identity(VaultMethod.KUBERNETES, "kubernetes", "payments", "payments/app", "vault")
FILE = Path("/etc/some.pem")


@pytest.mark.parametrize(
    "address",
    [
        "https://vault:8200",
        "https://vault:8200/",
        "https://[::1]:8200",
        "http://127.0.0.1:8200",
        "http://localhost:8200",
        "http://[::1]:8200",
    ],
)
def test_an_address_is_https_or_this_machines_own(address: str) -> None:
    assert VaultSettings(address).base == address.rstrip("/")


@pytest.mark.parametrize(
    ("given", "variable"),
    [
        ({"address": ""}, "ADDRESS"),
        ({"address": "vault:8200"}, "ADDRESS"),
        ({"address": "http://vault:8200"}, "ADDRESS"),
        ({"address": "http://10.0.0.1:8200"}, "ADDRESS"),
        ({"address": "https://user:canary@vault"}, "ADDRESS"),
        ({"address": "https://vault/v1"}, "ADDRESS"),
        ({"address": "https://vault?x=1"}, "ADDRESS"),
        ({"address": "https://vault:port"}, "ADDRESS"),
        ({"address": "https://[vault"}, "ADDRESS"),
        ({"address": "ftp://vault"}, "ADDRESS"),
        ({"address": "http://localhost", "ca_file": FILE}, "CA_FILE"),
        ({"address": "http://localhost", "crl_file": FILE}, "CRL_FILE"),
        ({"address": "https://vault", "client_cert_file": FILE}, "CLIENT_KEY_FILE"),
        ({"address": "https://vault", "client_key_file": FILE}, "CLIENT_CERT_FILE"),
    ],
)
def test_a_setting_that_cannot_be_meant_names_its_variable(given: dict[str, Any], variable: str) -> None:
    with pytest.raises(Refused) as met:
        VaultSettings(**given)
    assert met.value.code is Code.INVALID_ARGUMENT
    assert met.value.field == f"KERNELSECRET_VAULT_{variable}"
    assert "canary" not in str(met.value)


@pytest.mark.parametrize(
    "secret",
    [
        "hvs.CAESIPuRQLi7PM1GRR-Vb3yBHzQ8UJPIXw45Ewj5RnrBAqh-Gh4KHGh2cy5CRzNTMlJwWlBTdlA5",
        "hvb.AAAAAQJ4canary",
        "s.Ga5jyNq6kNfRMVQk2LY1j9iu",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
        "4c1b1b2e-1111-2222-3333-0123456789ab",
    ],
)
def test_what_looks_like_a_credential_is_taken_out_of_vaults_words(secret: str) -> None:
    text = said_by_vault([f"no good: {secret}", f'in "{secret}"'])
    assert secret not in text
    assert text.startswith("no good: ...")


def test_what_was_sent_is_taken_out_and_long_words_are_cut() -> None:
    assert said_by_vault(["1 error occurred:\n\t* bad canary\n\n"], ["canary", ""]) == "1 error occurred: * bad ..."
    assert len(said_by_vault(["x" * 1000])) <= 240
    assert said_by_vault(["naïve \x1b[31m"]) == "na\\xefve \\x1b[31m"


@given(st.integers(100, 599), st.binary(max_size=60))
def test_every_status_has_an_error_with_a_kind_and_no_body_in_it(status: int, body: bytes) -> None:
    reply = Reply(status, {}, b'{"canary-9b": ' + body)
    for error in (
        refusal(reply, "Vault at x", "secret/data/app", str(WHO), wrote=False),
        login_refusal(reply, WHO, "Vault at x", ()),
    ):
        assert isinstance(error, VaultError)
        assert "canary-9b" not in str(error)
        assert error.is_away == (error.kind in AWAY)


@given(st.text(max_size=80), st.sampled_from([400, 403, 404]), st.sampled_from(VaultMethod))
def test_a_login_is_refused_in_words_whatever_vault_says(words: str, status: int, method: VaultMethod) -> None:
    who = Identity(method, "m", "r", "ns/account", "vault", "db")
    body = ('{"errors": [' + str(ascii(words)[1:-1]).join('""') + "]}").encode()
    error = login_refusal(Reply(status, {}, body), who, "Vault at x", ())
    assert error.kind is Kind.LOGIN
    assert error.field.startswith("source.vault.")
    assert error.fix


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (429, None), (473, None), (472, Kind.STANDBY), (501, Kind.UNAVAILABLE), (503, Kind.SEALED)],
)
def test_the_health_of_vault_is_known_by_its_status(status: int, kind: Kind | None) -> None:
    problem = health_problem(Reply(status, {}, b""), "Vault at x")
    assert (problem.kind if problem else None) is kind
    for status in (404, 500, 502):
        assert health_problem(Reply(status, {}, b""), "Vault at x") is not None


@pytest.mark.parametrize(
    ("status", "words", "kind", "certain"),
    [
        (503, "Vault is sealed", Kind.SEALED, True),
        (503, "upstream connect error", Kind.UNAVAILABLE, False),
        (501, "", Kind.UNAVAILABLE, True),
        (472, "", Kind.STANDBY, True),
        (473, "", Kind.STANDBY, False),
        (500, "internal error", Kind.UNAVAILABLE, False),
    ],
)
def test_only_what_proves_that_vault_serves_nobody_is_certain(
    status: int, words: str, kind: Kind, certain: bool
) -> None:
    body = json.dumps({"errors": [words]}).encode()
    found = outage(Reply(status, {}, body), "Vault at x")
    assert found is not None
    assert (found.kind, found.certain) == (kind, certain)
    assert outage(Reply(403, {}, body), "Vault at x") is None


@pytest.mark.parametrize(
    ("text", "seconds"), [(b"7", 7.0), (b"3600", 60.0), (b"", None), (b"soon", None), (b"-1", None)]
)
def test_the_time_to_wait_is_bounded(text: bytes, seconds: float | None) -> None:
    assert retry_after_s(Reply(429, {b"retry-after": text}, b"")) == seconds


def test_a_path_is_quoted_and_a_query_added() -> None:
    assert api_path("secret/data/a b?c", {}) == "/v1/secret/data/a%20b%3Fc"
    assert api_path("secret/data/app", {"version": "3"}) == "/v1/secret/data/app?version=3"


@pytest.mark.parametrize(
    "path",
    ["", "/secret/data/app", "secret//app", "secret/../sys/seal", "secret/./app", "secret/..", ".", "..", "../sys"],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(VaultError, match=r"is no path of Vault's API") as met:
        api_path(path, {})
    assert (met.value.kind, met.value.field) == (Kind.BAD_REQUEST, "source.vault.path")


def test_a_folder_of_secrets_may_be_named_with_its_slash() -> None:
    assert api_path("sys/mounts/", {}) == "/v1/sys/mounts/"


@pytest.mark.parametrize("odd", ["x\r\nX-Vault-Token: canary", "x\nX: canary", "x\rX: canary", "canary-ü"])
def test_no_token_and_no_namespace_can_add_a_line(odd: str) -> None:
    for request in (Request("GET", "/v1/x", odd), Request("GET", "/v1/x", "t", odd)):
        with pytest.raises(VaultError) as met:
            request.to("vault:8200")
        assert "canary" not in str(met.value)
    whole = Request("PUT", "/v1/x", "t", "ns", b"{}").to("vault:8200")
    assert whole.count(b"\r\n") == 8
    assert whole.endswith(b"X-Vault-Namespace: ns\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


@given(st.text())
def test_no_path_can_break_out_of_its_line(path: str) -> None:
    made = "/v1/"
    with suppress(VaultError):
        made = api_path(path, {"version": path})
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
    assert made.startswith("/v1/")


# Records


def test_a_record_comes_back_from_the_safe_as_it_was() -> None:
    held = granted(Auth("hvs.token", "accessor", 3600, True, "service"), 1000.5)
    record = Record("https://vault:8200", WHO, held, (held,), forgotten=True)
    assert unpacked(packed(record)) == record
    assert "hvs.token" not in repr(record) + repr(held)


@given(st.binary(max_size=200))
def test_a_blob_that_is_no_record_is_none(blob: bytes) -> None:
    assert unpacked(blob) is None or isinstance(unpacked(blob), Record)


def test_the_name_in_the_safe_is_short_and_another_for_each_vault_and_identity() -> None:
    long = Identity(VaultMethod.JWT, "m" * 500, "r" * 500, "n" * 500, "a" * 500, "", "x" * 500)
    names = {safe_name(address, who) for address in ("https://a", "https://b") for who in (WHO, long)}
    assert len(names) == 4
    assert all(len(name.encode()) <= 128 for name in names)


def test_a_renewal_that_gives_less_says_that_the_end_is_near() -> None:
    held = granted(Auth("t", "a", 3600, True), 0.0)
    assert held.ends_s == 3600.0
    whole = renewed(held, Auth("t", "a", 3600, True), 2400.0)
    assert whole.ends_s == 6000.0
    assert not is_capped(whole)
    assert is_capped(renewed(held, Auth("t", "a", 1200, True), 2400.0))
    assert granted(Auth("t", "a", 0, False), 0.0).ends_s == math.inf


# Mounts


def test_a_mount_is_known_for_five_minutes_and_to_its_own_namespace_only() -> None:
    now = [0.0]
    mounts = Mounts(lambda: now[0])
    raw = b'{"path": "team/kv/", "type": "kv", "options": {"version": "2"}}'
    mount = mounts.learn("", Answer("x", raw))
    assert mount.is_kv2
    assert mounts.find("", "team/kv/data/app") is mount
    assert mounts.find("", "team/other/data/app") is None
    assert mounts.find("", "team/kv2/data/app") is None
    assert mounts.find("ns", "team/kv/data/app") is None
    now[0] = 301.0
    assert mounts.find("", "team/kv/data/app") is None
    assert mounts.learn("", Answer("x", b'{"path": "old/", "type": "generic"}')).version == 1
    assert mounts.learn("", Answer("x", b'{"path": "pki/", "type": "pki", "options": null}')).version == 0
    for raw in (b"{}", b'{"path": "x", "type": "kv"}', b"[]", b""):
        with pytest.raises(VaultError) as met:
            mounts.learn("", Answer("x", raw))
        assert met.value.kind is Kind.BAD_ANSWER


def test_mounts_of_many_namespaces_are_not_remembered_for_ever() -> None:
    mounts = Mounts(lambda: 0.0)
    for number in range(5000):
        mounts.learn(f"ns-{number}", Answer("x", b'{"path": "kv/", "type": "kv"}'))
    assert len(mounts._known) <= 1024
    assert mounts.find("ns-4999", "kv/app") is not None


def test_what_was_sent_is_not_shown_however_vault_quotes_it() -> None:
    sent = 'canary "one"  and\\two\nthree/%'
    for quoted in (sent, json.dumps(sent), urllib.parse.quote(sent, safe=""), urllib.parse.quote_plus(sent)):
        shown = said_by_vault([f"cannot use {quoted} here"], [sent])
        assert "canary" not in shown
        assert "three" not in shown


def test_of_two_texts_that_were_sent_nothing_is_left_where_one_is_in_the_other() -> None:
    for hide in (["abc", "abc-canary"], ["abc-canary", "abc"]):
        assert said_by_vault(["no abc-canary, no abc"], hide) == "no ..., no ..."
