"""Where secrets come from and what files show of them: what is good is read, what cannot work is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kernelsecret.interceptor import Decode, FileSpec, ReadAs, VaultMethod
from kernelsecret.problems import Invalid
from kernelsecret.validation import read_interceptor
from tests.unit.contract.builders import changed

AT = "spec.secrets[0].source.vault"
GOOD: dict[str, Any] = {"path": "secret/data/payments/db", "role": "payments"}
APP_ROLE: dict[str, Any] = {"path": "secret/data/payments/db", "auth": {"method": "appRole", "credential": "shop"}}


def source(thing: dict[str, Any]) -> Any:
    return changed("spec.secrets.0.source", thing)


def said(thing: object) -> list[str]:
    with pytest.raises(Invalid) as caught:
        read_interceptor(thing)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "vault",
    [
        GOOD,
        APP_ROLE,
        GOOD | {"path": "database/creds/readonly"},
        GOOD | {"path": "pki/issue/web", "parameters": {"common_name": "app.payments.svc", "ttl": "1h"}},
        GOOD | {"version": 7, "namespace": "admin/team-a"},
        GOOD | {"auth": {"method": "jwt", "mount": "clusters/east", "audience": "https://vault.example.com"}},
        GOOD | {"path": "kv/with blanks/ü"},
        APP_ROLE | {"auth": {"method": "appRole", "credential": "shop", "audience": ""}},
    ],
)
def test_what_vault_can_be_asked_is_read(vault: dict[str, Any]) -> None:
    read_interceptor(source({"vault": vault}))


def test_the_pod_logs_in_by_kubernetes_and_reads_its_secrets_itself_unless_told_otherwise() -> None:
    vault = read_interceptor(source({"vault": GOOD})).spec.secrets[0].source.vault
    assert vault is not None
    assert vault.auth.method is VaultMethod.KUBERNETES
    assert (vault.auth.audience, vault.auth.mount, vault.version) == ("vault", "", 0)
    secret = read_interceptor(source({"kubernetes": {"name": "db"}})).spec.secrets[0].source.kubernetes
    assert secret is not None
    assert secret.read_as is ReadAs.POD


@pytest.mark.parametrize(
    ("vault", "field", "why"),
    [
        (GOOD | {"path": ""}, "path", "empty; write the path of Vault's API"),
        (GOOD | {"path": "/secret/data/x"}, "path", "write 'secret/data/x'"),
        (GOOD | {"path": "v1/secret/data/x"}, "path", "write 'secret/data/x'"),
        (GOOD | {"path": "/v1/secret/data/x"}, "path", "write 'secret/data/x'"),
        (GOOD | {"path": "secret/../sys/raw"}, "path", "has '..'"),
        (GOOD | {"path": "auth/token/lookup-self"}, "path", "shows the agent's own token"),
        (GOOD | {"path": "secret/a..b"}, "path", "has '..'"),
        (GOOD | {"path": "secret/data/x?version=2"}, "path", "use version to pin"),
        (GOOD | {"path": "secret/data/x#y"}, "path", "a query or a fragment"),
        (GOOD | {"path": "secret//x"}, "path", "empty part"),
        (GOOD | {"path": "secret/x/"}, "path", "no '/' at the end"),
        (GOOD | {"path": "secret/./x"}, "path", "empty part or one that is '.'"),
        (GOOD | {"path": "secret/a\nb"}, "path", "control character"),
        (GOOD | {"path": "ü" * 513}, "path", "more than 1024 bytes"),
        (GOOD | {"role": ""}, "role", "the method kubernetes logs in as a role; name the role that the pod's account"),
        ({"path": "a", "auth": {"method": "jwt"}}, "role", "the method jwt logs in as a role"),
        (GOOD | {"role": "r" * 254}, "role", "more than 253"),
        (GOOD | {"role": "a b"}, "role", "'a b' is not the name of a role; use letters"),
        (APP_ROLE | {"role": "shop"}, "role", "not for the method appRole"),
        (GOOD | {"auth": {"method": "token"}}, "auth.method", "invalid enum value 'token'"),
        (GOOD | {"auth": {"mount": "/kubernetes"}}, "auth.mount", "not a plain path"),
        (GOOD | {"auth": {"mount": "kubernetes/"}}, "auth.mount", "without a '/' at either end"),
        (GOOD | {"auth": {"mount": "auth/kubernetes"}}, "auth.mount", "write 'kubernetes'"),
        (GOOD | {"auth": {"mount": "a/../b"}}, "auth.mount", "not a plain path"),
        (GOOD | {"auth": {"mount": "m" * 254}}, "auth.mount", "more than 253"),
        (GOOD | {"auth": {"audience": ""}}, "auth.audience", "empty; name the audience"),
        (GOOD | {"auth": {"audience": "a" * 254}}, "auth.audience", "more than 253"),
        (GOOD | {"auth": {"audience": "a\x00"}}, "auth.audience", "control character"),
        (GOOD | {"auth": {"credential": "shop"}}, "auth.credential", "is for the method appRole only"),
        (APP_ROLE | {"auth": {"method": "appRole"}}, "auth.credential", "empty, but the method is appRole"),
        (APP_ROLE | {"auth": {"method": "appRole", "credential": "../x"}}, "auth.credential", "'/'"),
        (APP_ROLE | {"auth": {"method": "appRole", "credential": ".."}}, "auth.credential", "starts with '..'"),
        (GOOD | {"namespace": "/admin"}, "namespace", "not a plain path"),
        (GOOD | {"version": -1}, "version", "-1 is not the number of a version"),
        (GOOD | {"version": 1 << 31}, "version", "is not the number of a version"),
        (GOOD | {"version": 2, "parameters": {"a": "b"}}, "version", "remove one of them"),
        (GOOD | {"parameters": {f"p{n}": "" for n in range(17)}}, "parameters", "17 entries, at most 16"),
        (GOOD | {"parameters": {"a b": "c"}}, "parameters['a b']", "not the name of a parameter"),
        (GOOD | {"parameters": {"": "c"}}, "parameters['']", "not the name of a parameter"),
        (GOOD | {"parameters": {"a": "c\n"}}, "parameters['a']", "control character in its value"),
        (GOOD | {"parameters": {"a": "x" * 1025}}, "parameters['a']", "more than 1024 bytes"),
        (GOOD | {"token": "s.x"}, "token", "no such field"),
    ],
)
def test_what_vault_cannot_be_asked_is_refused_with_its_field_named(vault: Any, field: str, why: str) -> None:
    (found,) = said(source({"vault": vault}))
    assert found.startswith(f"{AT}.{field}: ")
    assert why in found


def test_the_value_of_a_parameter_is_not_repeated_in_its_refusal() -> None:
    assert "hunter2" not in str(said(source({"vault": GOOD | {"parameters": {"password": "hunter2\n"}}})))


def test_a_secret_is_read_as_the_pod_or_as_the_agent_and_as_nobody_else() -> None:
    (found,) = said(source({"kubernetes": {"name": "db", "readAs": "node"}}))
    assert found.startswith("spec.secrets[0].source.kubernetes.readAs: invalid enum value 'node'")


@pytest.mark.parametrize(
    "file",
    [
        {"key": "k", "jsonPointer": "/a/0", "decode": "base64"},
        {"key": "k", "jsonPointer": ""},
        {"key": "k", "template": ""},
        {"key": "", "template": "{{ k }}"},
        {"template": "{{ . | json }}"},
    ],
)
def test_what_a_file_can_show_is_read(file: dict[str, str]) -> None:
    read = read_interceptor(changed("spec.secrets.0.files.0", {"path": "f"} | file)).spec.secrets[0].files[0]
    assert isinstance(read, FileSpec)
    assert read.decode in (None, Decode.BASE64)


@pytest.mark.parametrize(
    ("file", "field", "why"),
    [
        ({}, "", "exactly one of key and template, has neither; keep one of them"),
        ({"key": "k", "template": "{{ k }}"}, "", "has both"),
        ({"key": "a/b"}, ".key", "'/'"),
        ({"key": "k", "jsonPointer": "a"}, ".jsonPointer", "does not begin with '/'; write it as RFC 6901"),
        ({"key": "k", "jsonPointer": "/a~2"}, ".jsonPointer", "neither ~0"),
        ({"key": "k", "jsonPointer": "/a~"}, ".jsonPointer", "neither ~0"),
        ({"key": "k", "jsonPointer": "/a\n"}, ".jsonPointer", "control character"),
        ({"key": "k", "jsonPointer": "/" + "ü" * 256}, ".jsonPointer", "more than 512 bytes"),
        ({"key": "k", "jsonPointer": "/" * 33}, ".jsonPointer", "more than 32 steps"),
        ({"key": "k", "decode": "hex"}, ".decode", "invalid enum value 'hex'"),
        ({"template": "{{ k }}", "jsonPointer": "/a"}, ".jsonPointer", "this file has a template"),
        ({"template": "{{ k }}", "decode": "base64"}, ".decode", "write {{ KEY | base64decode }}"),
        ({"template": "{{ k"}, ".template", "is not closed by '}}'"),
        ({"template": "k"}, ".template", "shows no key; write {{ username }}"),
        ({"template": '{{ "k" }}'}, ".template", "shows no key"),
        ({"template": "{{ }}"}, ".template", "'' is not a key"),
        ({"template": "{{ a b }}"}, ".template", "'a b' is not a key"),
        ({"template": "{{ ..data }}"}, ".template", "'..data' is not a key"),
        ({"template": "{{{ a }}}"}, ".template", "'{ a' is not a key"),
        ({"template": "{{ if a }}b{{ end }}"}, ".template", "'if a' is not a key"),
        ({"template": "{{ a | upper }}"}, ".template", "no filter 'upper'; there are json, base64, base64decode"),
        ({"template": "{{ . }}"}, ".template", "'.' is all keys; write {{ . | json }}"),
        ({"template": "{{ . | base64 }}"}, ".template", "write {{ . | json }}"),
        ({"template": "{{ a " + "| trim" * 9 + " }}"}, ".template", "9 filters, at most 8"),
        ({"template": "{{a}}" * 65}, ".template", "65 times, at most 64"),
        ({"template": "{{a}}" + "x" * 4092}, ".template", "more than 4096 bytes"),
    ],
)
def test_what_a_file_cannot_show_is_refused_with_its_field_named(file: Any, field: str, why: str) -> None:
    (found,) = said(changed("spec.secrets.0.files.0", {"path": "f"} | file))
    assert found.startswith(f"spec.secrets[0].files[0]{field}: ")
    assert why in found
