from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from apiclient.connection import Connection, from_kubeconfig, in_cluster
from kernelsecret.errors import Refused

SECRET = "canary-77aa"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
            {"name": "two", "context": {"cluster": "lost", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://api:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def account(folder: Path) -> Path:
    for name, text in (("token", "t"), ("ca.crt", "pem"), ("namespace", "kernelsecret-system\n")):
        (folder / name).write_text(text)
    return folder


def test_a_pod_finds_the_api_server_by_its_environment_and_its_account(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    found = in_cluster(environment, account(tmp_path))
    assert found.server == "https://10.0.0.1:443"
    assert (found.token_file, found.ca_file) == (tmp_path / "token", tmp_path / "ca.crt")
    assert found.namespace == "kernelsecret-system"
    assert in_cluster(environment | {"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).server == "https://[fd00::1]:443"


def test_outside_of_a_pod_it_is_said_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"KUBERNETES_SERVICE_HOST: not set; .*kubeconfig"):
        in_cluster({}, tmp_path)
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(Refused, match=f"{tmp_path / 'token'}: missing"):
        in_cluster(environment, tmp_path)


def test_a_kubeconfig_names_files_beside_itself(tmp_path: Path) -> None:
    user = {"client-certificate": "me.crt", "client-key": "/keys/me.key"}
    found = from_kubeconfig(kubeconfig(tmp_path, user, **{"certificate-authority": "ca.crt"}))
    assert found.server == "https://api:6443"
    assert found.ca_file == tmp_path / "ca.crt"
    assert (found.client_certificate, found.client_key) == (tmp_path / "me.crt", Path("/keys/me.key"))
    assert found.namespace == "team"
    assert (
        from_kubeconfig(kubeconfig(tmp_path, {"tokenFile": "token", "token": SECRET})).token_file == tmp_path / "token"
    )


def test_what_a_kubeconfig_has_inline_is_taken_and_never_shown(tmp_path: Path) -> None:
    user = {"token": SECRET, "client-certificate-data": encoded("crt"), "client-key-data": encoded(SECRET)}
    settings = {"certificate-authority-data": encoded("ca"), "tls-server-name": "kubernetes"}
    found = from_kubeconfig(kubeconfig(tmp_path, user, **settings))
    assert (found.ca_pem, found.client_certificate_pem, found.client_key_pem) == ("ca", "crt", SECRET)
    assert (found.token, found.server_name) == (SECRET, "kubernetes")
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("user", "cluster", "field"),
    [
        ({}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({}, {"proxy-url": "http://p"}, "proxy-url"),
        ({"exec": {"command": "aws"}}, {}, "exec"),
        ({"auth-provider": {"name": "gcp"}}, {}, "exec"),
        ({"username": "u", "password": SECRET}, {}, "username"),
        ({"as": "admin"}, {}, "as"),
        ({"client-key-data": SECRET + "*"}, {}, "client-key-data"),
        ({"client-key-data": encoded(SECRET)}, {}, "client certificate"),
        ({"token": [SECRET]}, {}, "users"),
        ({}, {"server": "ftp://x"}, "server"),
        ({}, {"server": f"https://user:{SECRET}@x"}, "server"),
        ({}, {"server": "http://api.example.org"}, "server"),
        ({}, {"server": ""}, "server"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused) as caught:
        from_kubeconfig(kubeconfig(tmp_path, user, **cluster))
    assert caught.value.field.startswith(field)
    assert SECRET not in str(caught.value)


def test_names_that_a_kubeconfig_lacks_are_said(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {})
    with pytest.raises(Refused, match="contexts: there is none named 'three'"):
        from_kubeconfig(path, "three")
    with pytest.raises(Refused, match="clusters: there is none named 'lost'"):
        from_kubeconfig(path, "two")
    path.write_text("{}")
    with pytest.raises(Refused, match="current-context: not set"):
        from_kubeconfig(path)


@pytest.mark.parametrize(
    "content", [f"a: [{SECRET}", f"- {SECRET}", f"{SECRET}: &a [*a]", "\0", "[" * 2000, "x" * (2 << 20)]
)
def test_a_file_that_is_no_kubeconfig_is_refused_without_quoting_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(Refused) as caught:
        from_kubeconfig(path)
    assert SECRET not in str(caught.value)
    with pytest.raises(Refused, match="No such file"):
        from_kubeconfig(tmp_path / "none")


def test_http_is_for_this_machine_alone() -> None:
    for server in ("http://127.0.0.1:8001", "http://localhost:1", "http://[::1]:1"):
        assert Connection(server).server == server
    for server in ("http://10.0.0.1", "http://localhost.example.org"):
        with pytest.raises(Refused, match="in the clear"):
            Connection(server)
