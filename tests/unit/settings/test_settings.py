from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import api_side
from agent.api_side import uses_api
from agent.setting_table import OPTIONS
from agent.settings import Settings, misspelt
from kernelsecret.errors import Code, Refused

NODE = {"KERNELSECRET_NODE": "node-1"}


def test_the_defaults_work_on_a_node() -> None:
    settings = Settings.load(NODE)
    assert settings.run_dir == Path("/run/kernelsecret")
    assert settings.state_dir == Path("/run/kernelsecret/state")
    assert settings.admin_socket == Path("/run/kernelsecret/admin.sock")
    assert settings.csi_socket == Path("/var/lib/kubelet/plugins/csi.kernelsecret.io/csi.sock")
    assert settings.registration_socket == Path("/var/lib/kubelet/plugins_registry/csi.kernelsecret.io-reg.sock")
    assert str(settings.http_address) == "127.0.0.1:9473"
    assert settings.engine == "auto"
    assert settings.events_per_second == 100


def test_without_an_address_there_is_no_vault_and_with_one_all_that_is_set_reaches_it() -> None:
    assert Settings.load(NODE).vault() is None
    set_ = {
        "ADDRESS": "https://vault.example.com:8200/",
        "CA_FILE": "/ca.pem",
        "SERVER_NAME": "vault",
        "CRL_FILE": "/crl.pem",
        "CLIENT_CERT_FILE": "/agent.pem",
        "CLIENT_KEY_FILE": "/agent.key",
        "APPROLE_DIR": "/approles",
    }
    vault = Settings.load(NODE | {f"KERNELSECRET_VAULT_{name}": text for name, text in set_.items()}).vault()
    assert vault is not None
    assert (vault.base, vault.server_name) == ("https://vault.example.com:8200", "vault")
    found = vault.ca_file, vault.crl_file, vault.client_cert_file, vault.client_key_file, vault.approle_dir
    assert found == (Path("/ca.pem"), Path("/crl.pem"), Path("/agent.pem"), Path("/agent.key"), Path("/approles"))


@pytest.mark.parametrize("name", ["CA_FILE", "APPROLE_DIR"])
def test_a_setting_of_a_vault_that_is_nowhere_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=f"is not set, and KERNELSECRET_VAULT_{name} is") as caught:
        Settings.load(NODE | {f"KERNELSECRET_VAULT_{name}": "/x"})
    assert caught.value.field == "KERNELSECRET_VAULT_ADDRESS"


def test_every_option_is_a_field_and_every_field_an_option() -> None:
    assert [option.name for option in OPTIONS] == [field.name for field in msgspec.structs.fields(Settings)]


def test_without_a_name_the_node_is_called_as_the_host() -> None:
    assert Settings.load({}).node == socket.gethostname().lower()


def test_folders_follow_the_folder_that_they_lie_in() -> None:
    settings = Settings.load(NODE | {"KERNELSECRET_RUN_DIR": "/run/x", "KERNELSECRET_KUBELET_DIR": "/k"})
    assert settings.state_dir == Path("/run/x/state")
    assert settings.admin_socket == Path("/run/x/admin.sock")
    assert settings.csi_socket == Path("/k/plugins/csi.kernelsecret.io/csi.sock")


def test_flags_win_over_variables_and_an_empty_variable_is_none() -> None:
    env = NODE | {"KERNELSECRET_ENGINE": "iter", "KERNELSECRET_LOG_LEVEL": ""}
    settings = Settings.load(env, {"engine": "tmpfs", "events_kept": 7, "run_dir": Path("/run/y"), "log_level": None})
    assert settings.engine == "tmpfs"
    assert settings.events_kept == 7
    assert settings.state_dir == Path("/run/y/state")
    assert settings.log_level == "info"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("NODE", "Node_1", "not a node's name"),
        ("RUN_DIR", "run", "not an absolute path"),
        ("STATE_DIR", "/run/../etc", "'..'"),
        ("CSI_SOCKET", "/" + "a" * 110, "107 bytes"),
        ("HTTP_ADDRESS", "9473", "HOST:PORT"),
        ("HTTP_ADDRESS", "127.0.0.1:65536", "HOST:PORT"),
        ("HTTP_ADDRESS", "example.org:80", "neither an IP address"),
        ("ENGINE", "rewrite", "auto, iter, tmpfs"),
        ("LOG_LEVEL", "trace", "debug, info, warning, error"),
        ("EVENTS_PER_SECOND", "0", "from 1 to 100000"),
        ("EVENTS_PER_SECOND", "ten", "from 1 to 100000"),
        ("EVENTS_KEPT", "-1", "from 0 to 100000"),
        ("AUDIT_LOG", "audit", "not an absolute path"),
        ("STATE_DIR", "/etc/kernelsecret/secrets/state", "lies in KERNELSECRET_FILE_SOURCE_DIR"),
        ("AUDIT_LOG", "/etc/kernelsecret/cluster/a", "lies in KERNELSECRET_CLUSTER_DIR"),
        ("VAULT_ADDRESS", "vault.example.com:8200", "https://HOST"),
        ("VAULT_ADDRESS", "http://vault.example.com:8200", "in the clear"),
        ("VAULT_ADDRESS", "https://vault example", "neither a letter"),
        ("VAULT_CA_FILE", "ca.pem", "not an absolute path"),
        ("POLL_FLOOR", "often", "not a duration"),
        ("POLL_FLOOR", "10ms", "from 0.1 s to 86400 s"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable_named(name: str, text: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        Settings.load(NODE | {f"KERNELSECRET_{name}": text})
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.field == f"KERNELSECRET_{name}"


def test_a_wrong_flag_is_named_as_a_flag() -> None:
    with pytest.raises(Refused) as caught:
        Settings.load(NODE, {"http_address": "x"})
    assert caught.value.field == "--http-address"
    with pytest.raises(Refused, match="no such setting"):
        Settings.load(NODE, {"speed": 9})
    with pytest.raises(Refused, match="--node"):
        Settings.load(NODE, {"node": ""})


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("localhost:0", "127.0.0.1", 0), ("[::1]:9473", "::1", 9473), ("0.0.0.0:80", "0.0.0.0", 80)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = Settings.load(NODE | {"KERNELSECRET_HTTP_ADDRESS": text}).http_address
    assert (address.host, address.port) == (host, port)


def test_the_audit_log_can_be_standard_output() -> None:
    assert Settings.load(NODE | {"KERNELSECRET_AUDIT_LOG": "-"}).audit_log is None


@given(st.sampled_from([option.variable for option in OPTIONS]), st.text())
def test_any_text_is_taken_or_refused_by_name_never_worse(variable: str, text: str) -> None:
    fields: list[str] = []
    try:
        Settings.load(NODE | {variable: text})
    except Refused as refused:
        fields.append(refused.field)
    assert all(field.startswith("KERNELSECRET_") for field in fields)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("webhook.example.svc:8444", "webhook.example.svc", 8444), ("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:9", "::1", 9)],
)
def test_the_webhook_is_named_by_host_or_address(text: str, host: str, port: int) -> None:
    address = Settings.load(NODE | {"KERNELSECRET_WEBHOOK_ADDRESS": text}).webhook_address
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize("text", ["webhook", ":8444", "webhook:0", "webhook:x", "a b:1", "a,b:1", "webhook:70000"])
def test_what_is_no_address_of_the_webhook_is_refused(text: str) -> None:
    with pytest.raises(Refused) as caught:
        Settings.load(NODE | {"KERNELSECRET_WEBHOOK_ADDRESS": text})
    assert caught.value.field == "KERNELSECRET_WEBHOOK_ADDRESS"


def test_the_cluster_is_seen_by_the_api_server_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_side, "ACCOUNT_FOLDER", tmp_path)
    assert not uses_api(Settings.load(NODE))
    assert uses_api(Settings.load(NODE | {"KERNELSECRET_KUBECONFIG": "/etc/kernelsecret/kubeconfig"}))
    (tmp_path / "token").touch()
    assert uses_api(Settings.load(NODE))
    assert not uses_api(Settings.load(NODE | {"KERNELSECRET_CLUSTER": "files"}))
    assert uses_api(Settings.load(NODE | {"KERNELSECRET_CLUSTER": "api"}))


def test_misspelt_variables_are_found_and_those_of_kubernetes_services_are_not() -> None:
    env = NODE | {
        "KERNELSECRET_LOGLEVEL": "info",
        "KERNELSECRET_QUUX_ZZZZ": "1",
        "KERNELSECRET_PORT": "tcp://10.0.0.1:443",
        "KERNELSECRET_SERVICE_HOST": "10.0.0.1",
        "KERNELSECRET_WEBHOOK_PORT_443_TCP_ADDR": "10.0.0.1",
        "KERNELSECRET_WEBHOOK_SERVICE_PORT_HTTPS": "443",
        "PATH": "/bin",
    }
    found = misspelt(env)
    assert found["KERNELSECRET_LOGLEVEL"] == "KERNELSECRET_LOG_LEVEL"
    assert set(found) == {"KERNELSECRET_LOGLEVEL", "KERNELSECRET_QUUX_ZZZZ"}
