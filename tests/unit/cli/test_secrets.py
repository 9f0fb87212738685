"""`secrets` as people and programs read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernelsecret.cli import secrets_command
from kernelsecret.cli.admin_client import AdminClient
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.cli.render_secrets import reader_lines, secret_lines


def reader(pod: str, file: str, standing: str, read: str = "") -> dict[str, str]:
    return {
        "namespace": "shop",
        "pod": pod,
        "volume_id": f"csi-{pod}",
        "file": file,
        "read": read,
        "standing": standing,
        "mode": "ebpf",
    }


DB: dict[str, Any] = {
    "source": "vault",
    "path": "database/creds/app",
    "reader": "shop/web",
    "version": "lease 1f3a9c",
    "shown_for_s": 12.0,
    "checked_s_ago": 0.4,
    "how": "lease",
    "lease_ends": "2026-11-21T10:00:00Z",
    "lease_left_s": 3600.0,
    "old_leases": 1,
    "problem": "",
    "readers": [
        reader("web-0", "username", "current", "lease 1f3a9c"),
        reader("web-0", "password", "behind"),
        reader("web-1", "username", "current", "lease 1f3a9c"),
    ],
}
FILE: dict[str, Any] = {
    "source": "file",
    "path": "payments/db",
    "reader": "",
    "version": "",
    "shown_for_s": None,
    "checked_s_ago": None,
    "how": "watch",
    "lease_ends": "",
    "lease_left_s": None,
    "old_leases": 0,
    "problem": "is not there",
    "readers": [reader("api-0", "token", "unread")],
}


def test_each_secret_has_a_line_with_version_freshness_lease_and_readers() -> None:
    lines = secret_lines([DB, FILE])
    assert lines[0].split() == ["SECRET", "VERSION", "SHOWN", "FOR", "CHECKED", "BY", "LEASE", "READERS"]
    assert [cell.strip() for cell in lines[1].split("  ") if cell] == [
        "vault:database/creds/app as shop/web",
        *("lease 1f3a9c", "12.0 s", "0.4 s ago", "lease", "ends in 60 min, 1 old", "1 of 2"),
    ]
    assert lines[2].split() == ["file:payments/db", "-", "-", "-", "watch", "-", "0", "of", "1"]


def test_what_fails_is_said_below_in_the_sources_own_words() -> None:
    assert secret_lines([DB, FILE])[-1] == "FAILING  file:payments/db: is not there"
    assert not any("FAILING" in line for line in secret_lines([DB]))


def test_a_node_without_secrets_says_so() -> None:
    assert secret_lines([]) == ["no secret is shown on this node"]


def test_each_file_says_which_version_its_readers_have() -> None:
    rows = [line.split("  ") for line in reader_lines([DB, FILE])[1:]]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["username", "vault:database/creds/app as shop/web", "ebpf", "lease 1f3a9c", "up to date"],
        ["password", "vault:database/creds/app as shop/web", "ebpf", "an older version", "BEHIND"],
        ["username", "vault:database/creds/app as shop/web", "ebpf", "lease 1f3a9c", "up to date"],
        ["token", "file:payments/db", "ebpf", "-", "not read yet"],
    ]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdminClient, "status", lambda self: {"secrets": [DB, FILE]})


@pytest.mark.usefixtures("agent")
def test_programs_get_a_list_and_a_pod_gets_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert secrets_command.run(Path("/x"), pod="", as_json=True) == Exit.OK
    assert json.loads(capsys.readouterr().out) == [DB, FILE]
    assert secrets_command.run(Path("/x"), pod="shop/web-1", as_json=True) == Exit.OK
    (only,) = json.loads(capsys.readouterr().out)
    assert [one["pod"] for one in only["readers"]] == ["web-1"]


@pytest.mark.usefixtures("agent")
def test_of_one_pod_each_file_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert secrets_command.run(Path("/x"), pod="shop/web-0", as_json=False) == Exit.OK
    shown = capsys.readouterr().out
    assert "BEHIND" in shown
    assert "payments/db" not in shown


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("pod", "status", "words"),
    [("web-0", Exit.USAGE, "is not NAMESPACE/NAME"), ("shop/none", Exit.WRONG, "no volume of the pod shop/none")],
)
def test_a_pod_that_cannot_be_meant_is_said(pod: str, status: Exit, words: str) -> None:
    with pytest.raises(CommandError, match=words) as caught:
        secrets_command.run(Path("/x"), pod=pod, as_json=False)
    assert caught.value.status is status
