"""The command line: help, usage errors, and words for an agent that is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.setting_table import OPTIONS
from kernelsecret.cli.agent_command import load
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.cli.main import app

COMMANDS = ("agent", "probe", "explain", "status", "secrets", "trace", "push", "demo")


def ctl(*words: str) -> subprocess.CompletedProcess[str]:
    """As an operator runs it, without this environment's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KERNELSECRET_")}
    command = [sys.executable, "-m", "kernelsecret.cli.main", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    assert f"kernelsecret-ctl {command}" in shown.output


def test_the_agent_has_a_flag_for_every_setting() -> None:
    shown = CliRunner().invoke(app, ["agent", "--help"], env={"COLUMNS": "300"}).output
    for option in OPTIONS:
        assert f"{option.flag} VALUE" in shown
        assert option.variable in shown


def test_help_does_not_wait_for_what_only_commands_need() -> None:
    script = "import sys, kernelsecret.cli.main; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"grpc", "aiohttp", "agent.service"} & set(ran.stdout.split())


def test_a_wrong_flag_is_named_and_is_a_usage_error() -> None:
    ran = ctl("agent", "--engine", "magic")
    assert ran.returncode == Exit.USAGE
    assert "--engine: 'magic' is not one of auto, iter, tmpfs" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_unknown_command_is_a_usage_error() -> None:
    assert ctl("serve").returncode == Exit.USAGE


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(CommandError, match=r"^KERNELSECRET_LOG_LEVEL: 'loud' is not one of") as caught:
        load({}, {"KERNELSECRET_LOG_LEVEL": "loud"})
    assert caught.value.status is Exit.USAGE


@pytest.mark.parametrize("words", [["status"], ["trace"], ["secrets"], ["status", "-o", "json"]])
def test_an_agent_that_is_not_there_is_said_in_one_sentence_with_a_fix(words: list[str], tmp_path: Path) -> None:
    ran = ctl(*words, "--admin-socket", str(tmp_path / "admin.sock"))
    assert ran.returncode == Exit.WRONG
    assert ran.stdout == ""
    assert ran.stderr == (
        f"kernelsecret-ctl: no agent answers at {tmp_path}/admin.sock: start one with `kernelsecret-ctl agent`,"
        " or name its socket with --admin-socket\n"
    )
