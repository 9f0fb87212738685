"""The whole command over files: what is resolved, refused, rotated, checked; and what never shows anywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kernelsecret.cli.failures import CommandError
from kernelsecret.cli.main import app
from tests.unit.cli.run.commanded import CTL, commanded, environment, ran, replaced
from tests.unit.cli.run.supervised import memory, python, until

SECRET = "correct-horse-battery-staple"
TOKEN = "hvs.a-token-that-nobody-may-see"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return replaced(tmp_path / "app" / "password", SECRET)


def test_help_teaches_with_examples() -> None:
    shown = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "160"}).output
    for words in ("Examples:", "kernelsecret-ctl run -- ./server", "VAULT_ADDR", "NAME_FILE=vault:", "--on-change"):
        assert words in shown


def test_a_variable_becomes_the_path_of_its_value(password: Path) -> None:
    done = ran(
        "--", "sh", "-c", 'echo "$A"; cat "$A" "$B"; exit 6', A=f"file:{password}", B=f"file:{password.parent}#password"
    )
    path, values = done.stdout.splitlines()
    assert re.fullmatch(r"/proc/\d+/fd/\d+", path)
    assert (values, done.stderr, done.returncode) == (SECRET * 2, "", 6)


def test_what_is_no_reference_and_arguments_like_ours_go_to_the_command_as_they_are(password: Path) -> None:
    script = 'printf "%s|" "$@" "$PLAIN" "$URL"'
    done = ran(
        "--", "sh", "-c", script, "sh", "--check", "-g", "--", "a b", "",
        A=f"file:{password}", PLAIN="x=y", URL="https://a/#b",
    )  # fmt: skip
    assert done.stdout == "--check|-g|--|a b||x=y|https://a/#b|"


def test_a_command_without_references_runs_and_that_is_said() -> None:
    done = ran("--", "echo", "ran")
    assert done.stdout == "ran\n"
    assert "no variable of the environment is a reference" in done.stderr


def test_a_command_whose_references_are_not_all_good_is_not_started(password: Path) -> None:
    folder = password.parent
    bad = {"LACKING": f"file:{folder}/lacking", "AWAY": f"file:{folder}/no/such"}
    done = ran("--", "echo", "ran", GOOD=f"file:{password}", **bad)
    assert (done.stdout, done.returncode) == ("", 125)
    assert f"LACKING (file:{folder}#lacking): there is no key 'lacking'; there is 'password'\n" in done.stderr
    assert f"AWAY (file:{folder}/no#such): there is no such folder\n" in done.stderr
    assert SECRET not in done.stderr


def test_everything_that_is_wrong_with_references_is_said_before_anything_is_asked() -> None:
    done = ran("--", "echo", "ran", A="vault:secret/data/db", B="valut:secret/data/db#k", C="vault:secret/data/db#k")
    assert (done.stdout, done.returncode) == ("", 125)
    first, second = done.stderr.splitlines()
    assert first.startswith("kernelsecret-ctl: A: names no key of the secret; write #KEY")
    assert second.startswith("kernelsecret-ctl: B: begins with 'valut:', which is not 'vault:'; write vault:")


def test_a_vault_that_is_not_there_is_said_of_each_reference() -> None:
    done = ran("--", "echo", "ran", A="vault:kv/db#k", VAULT_TOKEN=TOKEN, VAULT_ADDR="http://127.0.0.1:1")
    assert (done.stdout, done.returncode) == ("", 125)
    assert "A (vault:kv/db#k): Vault at http://127.0.0.1:1: cannot be reached" in done.stderr
    assert "Vault is away" not in done.stderr, "no COMMAND keeps anything"
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--on-change", "reload", "--", "true"), "--on-change: 'reload' is not one of none"),
        (("--on-change", "signal:KILL", "--", "true"), "--on-change: 'KILL' is no signal"),
        (("--on-change", "signal:HUP", "--pass", "pipe", "--", "true"), "a value from a pipe is read once"),
        (("--poll-interval", "0s", "--", "true"), "--poll-interval: '0s' is not between 0.1s and 24h"),
        (("--grace", "soon", "--", "true"), "--grace: not a duration"),
        ((), "no COMMAND is given"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(words: tuple[str, ...], said: str) -> None:
    error = CliRunner().invoke(app, ["run", *words]).exception
    assert isinstance(error, CommandError)
    assert error.status == 2
    assert said in str(error)


def test_a_file_that_changes_is_seen_by_who_opens_the_path_again(password: Path) -> None:
    script = "import os, sys\nfor line in sys.stdin: print(open(os.environ['A']).read())"
    with commanded("--on-change", "signal:USR1", "--", *python(f"import signal\nsignal.signal(10, lambda *_: print('told'))\n{script}"), A=f"file:{password}") as one:  # fmt: skip  # noqa: E501
        one.tell()
        assert one.says.line() == SECRET
        replaced(password, "another")
        assert one.says.line() == "told"
        one.tell()
        assert one.says.line() == "another"


def test_a_file_that_goes_away_is_told_and_its_last_value_stays(password: Path) -> None:
    script = "import os, sys\nprint('ready')\nfor line in sys.stdin: print(open(os.environ['A']).read())"
    with commanded("--", *python(script), A=f"file:{password}") as one:
        assert one.says.line() == "ready"
        password.unlink()
        assert one.warns.line().endswith("key 'password': removed; the last value stays")
        one.tell()
        assert one.says.line() == SECRET


def test_other_files_of_the_folder_are_nobodys_concern(password: Path) -> None:
    (password.parent / "huge").write_bytes(bytes(2 << 20))
    os.mkfifo(password.parent / "pipe")
    assert ran("--", "sh", "-c", 'cat "$A"', A=f"file:{password}").stdout == SECRET


def test_only_named_variables_are_taken_for_references(password: Path) -> None:
    done = ran("--names", "A", "--", "sh", "-c", 'cat "$A"; echo "$B"', A=f"file:{password}", B="file:/config/")
    assert done.stdout == f"{SECRET}file:/config/\n"


def test_check_says_what_is_found_and_starts_nothing(password: Path) -> None:
    done = ran("--check", "-o", "json", "--", "echo", "ran", A=f"file:{password}", B=f"file:{password}.old")
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)
    assert (good["name"], good["found"], good["problem"]) == ("A", True, "")
    assert re.match(r"20\d\d-", good["version"])
    assert (bad["name"], bad["found"], bad["version"]) == ("B", False, "")
    assert "there is no key 'password.old'" in bad["problem"]
    assert SECRET not in done.stdout + done.stderr
    table = ran("--check", A=f"file:{password}")
    assert (table.returncode, table.stderr) == (0, "")
    assert table.stdout.startswith(f"A  file:{password.parent}#password  20")


def test_signals_reach_the_command_and_no_process_is_left(password: Path) -> None:
    with commanded("--", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done", A=f"file:{password}") as one:  # fmt: skip  # noqa: E501
        assert one.says.line() == "ready"
        resolver = one.resolver
        one.process.send_signal(signal.SIGTERM)
        assert one.status() == 9
        # It has done all that it had to when we end; the kernel may still be taking it down.
        until(lambda: has_ended(resolver), "the resolver has ended", within_s=2)


def test_values_and_tokens_are_in_no_argument_environment_file_or_message(password: Path, tmp_path: Path) -> None:
    script = "import os, sys\nprint('ready')\nsys.stdin.readline()"
    with commanded("--", *python(script), A=f"file:{password}", VAULT_TOKEN=TOKEN) as one:
        assert one.says.line() == "ready"
        task = Path(f"/proc/{one.pid}/task/{one.pid}/children")
        processes = [one.pid, *(int(pid) for pid in task.read_text().split())]
        assert len(processes) == 3
        command = next(pid for pid in processes[1:] if pid != one.resolver)
        for pid in (one.pid, command):
            for name in ("cmdline", "environ", "status", "limits", "maps"):
                text = Path(f"/proc/{pid}/{name}").read_bytes()
                assert SECRET.encode() not in text, (pid, name)
                assert TOKEN.encode() not in text, (pid, name)
            text = memory(pid)
            assert len(text) > 1 << 16
            assert SECRET.encode() not in text
            assert TOKEN.encode() not in text
        assert SECRET.encode() not in Path(f"/proc/{one.resolver}/cmdline").read_bytes()
        limits = Path(f"/proc/{one.pid}/limits").read_text()
        assert re.search(r"Max core file size +0 ", limits)
        one.tell()
        assert one.status() == 0
        assert one.says.text + one.warns.text == "ready\n"


def test_the_process_that_knows_credentials_cannot_be_looked_into(password: Path) -> None:
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    look = (
        "import os, sys\n"
        "for name in ('mem', 'environ', 'fd/0', 'maps'):\n"
        "    try: (os.readlink if name == 'fd/0' else open)(f'/proc/{sys.argv[1]}/{name}')\n"
        "    except PermissionError: continue\n"
        "    sys.exit(name)\n"
    )
    process = subprocess.Popen(
        [*bare, *CTL, "--", "sh", "-c", "echo ready; read line"],
        env=environment(A=f"file:{password}", VAULT_TOKEN=TOKEN),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        pids = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        resolver = next(pid for pid in pids if os.getsid(pid) == pid)
        done = subprocess.run(
            [*bare, sys.executable, "-S", "-c", look, str(resolver)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        process.stdin.close()
    assert process.returncode == 1


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent only."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
