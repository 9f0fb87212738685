from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from kernelsecret.cli import main, webhook_command
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.errors import Code, Refused
from telemetry.options import misspelt
from telemetry.setting_types import Address
from webhook.options import OPTIONS, PREFIX
from webhook.settings import Settings


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KERNELSECRET")]:
        monkeypatch.delenv(name)


def test_without_anything_set_the_defaults_hold() -> None:
    settings = Settings.load()
    assert settings.kubeconfig is None
    assert settings.audit_log is None
    assert settings.address == Address("0.0.0.0", 8443)
    assert settings.nodes_address == Address("0.0.0.0", 8444)
    assert settings.namespace == "kernelsecret-system"
    assert settings.max_body == 3 << 20


def test_a_flag_wins_over_its_variable_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}DRAIN_S", "1")
    monkeypatch.setenv(f"{PREFIX}FINISH_S", "2")
    settings = Settings.load({"drain_s": "7", "finish_s": None})
    assert (settings.drain_s, settings.finish_s) == (7, 2)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}NAMESPACE", "")
    assert Settings.load().namespace == "kernelsecret-system"


def test_two_replicas_on_one_host_call_themselves_differently() -> None:
    first, second = Settings.load().identity, Settings.load().identity
    assert first != second
    assert Settings.load({"identity": "pod-1"}).identity == "pod-1"


def test_hosts_are_names_and_addresses_with_commas() -> None:
    assert Settings.load({"extra_hosts": "127.0.0.1, ::1,webhook.test"}).extra_hosts == (
        "127.0.0.1",
        "::1",
        "webhook.test",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kubeconfig", "relative/path"),
        ("address", "8443"),
        ("address", "webhook.test:8443"),
        ("nodes_address", "0.0.0.0:66000"),
        ("namespace", "Not-A-Name"),
        ("extra_hosts", "a b"),
        ("identity", "A_B"),
        ("agent_port", "0"),
        ("handover_s", "1000"),
        ("drain_s", "-1"),
        ("finish_s", "soon"),
        ("max_body", "1"),
        ("audit_log", "audit.jsonl"),
        ("log_level", "verbose"),
        ("vault_address", "http://vault.test:8200"),
        ("vault_address", "https://vault.test/v1"),
        ("vault_address", "https://user@vault.test"),
        ("vault_agent_image", "vault 1.21"),
        ("vault_ca_file", "ca.crt"),
        ("vault_agent_cpu", "0"),
        ("vault_agent_memory", "64 MB"),
        ("vault_agent_limit", "much"),
    ],
)
def test_what_is_wrong_is_named_by_its_variable_or_by_its_flag(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    with pytest.raises(Refused) as by_flag:
        Settings.load({name: text})
    assert by_flag.value.code is Code.INVALID_ARGUMENT
    assert by_flag.value.field == "--" + name.replace("_", "-")
    assert by_flag.value.fix
    monkeypatch.setenv(PREFIX + name.upper(), text)
    with pytest.raises(Refused) as by_variable:
        Settings.load()
    assert by_variable.value.field == PREFIX + name.upper()
    assert text in by_variable.value.why


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(Refused, match=r"^adress: there is no such setting"):
        Settings.load({"adress": "x"})


@given(st.sampled_from([option.name for option in OPTIONS]), st.text(max_size=60))
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    fields = set()
    try:
        Settings.load({name: text})
    except Refused as refused:
        fields = {refused.field}
    assert fields <= {"--" + name.replace("_", "-")}


def test_settings_do_not_change() -> None:
    settings: Any = Settings.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.drain_s = 3


def test_a_misspelt_variable_is_told_with_what_was_meant_and_a_services_own_are_not() -> None:
    env = [f"{PREFIX}ADRESS", f"{PREFIX}ADDRESS", f"{PREFIX}PORT", f"{PREFIX}SERVICE_HOST", f"{PREFIX}PORT_443_TCP"]
    assert misspelt(env, OPTIONS, PREFIX) == {f"{PREFIX}ADRESS": f"{PREFIX}ADDRESS"}


def test_the_daemon_reads_from_its_environment_what_the_flags_said(monkeypatch: pytest.MonkeyPatch) -> None:
    given_flags = {"drain_s": "7", "kubeconfig": "/etc/k", "identity": None}
    for name, value in webhook_command.environment(given_flags).items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert (settings.drain_s, settings.kubeconfig) == (7, Path("/etc/k"))


def test_every_setting_is_a_field_with_a_default_and_a_sentence() -> None:
    assert [option.name for option in OPTIONS] == list(Settings.model_fields)
    for option in OPTIONS:
        assert re.search(r"\.$|standard output\.$", option.help), option.name


class Became(Exception):
    """The program that the command became."""


def test_the_command_becomes_the_daemon_with_its_flags_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        raise Became(program, command, environment)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv(f"{PREFIX}FINISH_S", "3")
    with pytest.raises(Became) as became:
        main.app(["webhook", "--address", "127.0.0.1:8443", "--drain-s", "7"], standalone_mode=False)
    program, command, environment = became.value.args
    assert (program, command[-2:]) == (sys.executable, ["-m", "webhook"])
    found = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    assert found == {f"{PREFIX}ADDRESS": "127.0.0.1:8443", f"{PREFIX}DRAIN_S": "7", f"{PREFIX}FINISH_S": "3"}


def test_a_wrong_flag_is_a_wrong_use_of_the_command() -> None:
    with pytest.raises(CommandError, match=r"^--log-level: 'x' is not one of") as error:
        main.app(["webhook", "--log-level", "x"], standalone_mode=False)
    assert error.value.status == Exit.USAGE


def test_help_names_every_flag_with_its_variable_and_does_not_load_the_daemon() -> None:
    code = "import sys; from kernelsecret.cli import main; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"'fastapi'", "'pydantic'", "'aiohttp'", "'cryptography'"} & set(loaded.strip("[]\n").split(", "))
    shown = CliRunner().invoke(main.app, ["webhook", "--help"], env={"COLUMNS": "200"}).output
    for option in OPTIONS:
        assert option.flag in shown
        assert option.variable in shown
