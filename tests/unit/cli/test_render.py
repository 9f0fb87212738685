"""Events and status as people read them."""

from __future__ import annotations

import pytest

from kernelsecret.cli.probe_command import _lines as probe_lines
from kernelsecret.cli.render import duration, event_line, status_lines, table

READ = {
    "time": "2026-11-21T10:00:00.123456789Z",
    "event": "read",
    "kind": "refused",
    "namespace": "shop",
    "pod": "payments-0",
    "file": "password",
    "pid": 42,
    "uid": 0,
    "comm": "cat",
    "rule": "app",
    "action": "deny",
}


def test_a_refusal_says_who_where_and_why() -> None:
    assert event_line(READ) == (
        "10:00:00.123456  REFUSED    shop/payments-0 password  cat[42] uid 0 was entered from outside (rule app, deny)"
    )


def test_a_read_that_passed_says_to_whom() -> None:
    assert event_line(READ | {"kind": "served", "rule": "none"}).endswith(
        "served     shop/payments-0 password  to cat[42] uid 0"
    )


def test_a_broken_rule_that_is_only_audited_is_not_called_refused() -> None:
    line = event_line(READ | {"kind": "served", "action": "audit"})
    assert "AUDITED" in line
    assert "REFUSED" not in line


def test_a_rotation_says_how_long_it_took() -> None:
    event = {"event": "rotated", "source": "file", "secret": "a/b", "keys": 2, "volumes": 9, "duration_us": 1234}
    assert event_line(event).strip() == "rotated    file:a/b  2 keys, 9 volumes in 1.2 ms"


def test_missing_events_are_told() -> None:
    assert "7 events are missing" in event_line({"event": "dropped", "count": 7})


@pytest.mark.parametrize("kind", ["published", "adopted", "publish-refused", "unpublished", "kernel-limit", "news"])
def test_every_kind_of_event_has_a_line(kind: str) -> None:
    event = {
        "event": kind,
        "namespace": "shop",
        "pod": "web",
        "call": "bpf",
        "errno": "ENOMEM",
        "field": "x",
        "why": "y",
    }
    assert "\n" not in event_line(event)
    assert len(event_line(event).split()) > 1


def test_the_status_begins_with_the_agent_and_ends_with_its_volumes() -> None:
    volume = {
        "namespace": "shop",
        "pod": "web",
        "interceptor": "db",
        "mode": "ebpf",
        "engine": "iter",
        "access": "app",
        "served": 12,
        "refused": 1,
        "files": [{"name": "user"}, {"name": "password"}],
    }
    probe = {"engine": "iter", "reason": "", "kernel": "6.18", "lockdown": "none", "btf": True, "cgroup_version": 2}
    lines = status_lines(
        {"version": "1", "node": "n", "pid": 7, "uptime_s": 7300.0, "probe": probe, "volumes": [volume]}
    )
    assert lines[0] == "agent      1 on n, pid 7, up 2 h"
    assert "health     good" in lines
    assert lines[-1] == "shop/web  db           ebpf  iter    app     12      1        user,password"


def test_what_is_wrong_is_said_before_the_volumes() -> None:
    condition = {"reason": "source-down", "subject": "file:a", "why": "gone", "since": "now"}
    lines = status_lines({"probe": None, "conditions": [condition]})
    assert "DEGRADED   source-down file:a: gone (since now)" in lines
    assert "health     good" not in lines


def test_programs_that_the_shim_does_not_reach_are_named_with_their_reasons() -> None:
    busybox = {"path": "/bin/busybox", "why": "static"}
    su = {"path": "/usr/bin/su", "why": "setuid"}
    unaffected = [{"namespace": "shop", "pod": "web", "programs": [busybox, su]}]
    line = "UNAFFECTED shop/web: the shim does not reach /bin/busybox: static, /usr/bin/su: setuid"
    assert line in status_lines({"probe": None, "unaffected": unaffected})
    event = {"event": "program-unaffected", "namespace": "shop", "pod": "web", "program": "/x", "why": "static"}
    assert event_line(event).strip() == "UNAFFECTED shop/web  /x: static"


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            {"idmapped": "tmpfs"},
            "idmapped   tmpfs: pods with hostUsers: false can have what is served as files in memory",
        ),
        (
            {"idmapped": "none", "idmapped_reason": "x"},
            "idmapped   none: pods with hostUsers: false cannot be served (x)",
        ),
        ({}, "idmapped   none: pods with hostUsers: false cannot be served (not looked at)"),
    ],
)
def test_the_probe_says_whether_pods_with_a_user_namespace_can_be_served(found: dict[str, str], line: str) -> None:
    assert line in probe_lines({"engine": "tmpfs", "reason": ""} | found, by_agent=True)


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert table([("a", "bb"), ("ccc", "d")]) == ["a    bb", "ccc  d"]


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "0.2 s"), (119, "119.0 s"), (120, "2 min"), (172800, "2 d")])
def test_durations_have_one_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
