"""Secrets as people read about them: names, versions, ages, never a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernelsecret.cli.render import duration, table

_STANDING = {
    "current": "up to date",
    "behind": "BEHIND",
    "unread": "not read yet",
    "unknown": "not known (ordinary files)",
}


def secret_lines(secrets: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the secrets, and below it what is wrong with each."""
    if not secrets:
        return ["no secret is shown on this node"]
    rows: list[tuple[str, ...]] = [("SECRET", "VERSION", "SHOWN FOR", "CHECKED", "BY", "LEASE", "READERS")]
    for one in secrets:
        rows.append(
            (
                _name(one),
                str(one.get("version") or "-"),
                _time(one.get("shown_for_s")),
                _checked(one.get("checked_s_ago")),
                str(one.get("how") or "-"),
                _lease(one),
                _readers(one.get("readers") or []),
            )
        )
    wrong = [f"FAILING  {_name(one)}: {one['problem']}" for one in secrets if one.get("problem")]
    return [*table(rows), *(["", *wrong] if wrong else [])]


def reader_lines(secrets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each file of each reader: the version that was read last, and whether that is the one that is shown."""
    rows: list[tuple[str, ...]] = [("FILE", "SECRET", "MODE", "LAST READ", "READERS ARE")]
    for one in secrets:
        for reader in one.get("readers") or []:
            standing = str(reader.get("standing"))
            read = str(reader.get("read") or ("-" if standing in ("unread", "unknown") else "an older version"))
            file, mode = str(reader.get("file")), str(reader.get("mode"))
            rows.append((file, _name(one), mode, read, _STANDING.get(standing, standing)))
    return table(rows)


def _name(secret: Mapping[str, Any]) -> str:
    reader = f" as {secret['reader']}" if secret.get("reader") else ""
    return f"{secret.get('source')}:{secret.get('path')}{reader}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _checked(seconds: float | None) -> str:
    return "-" if seconds is None else f"{duration(seconds)} ago"


def _lease(secret: Mapping[str, Any]) -> str:
    left, old = secret.get("lease_left_s"), int(secret.get("old_leases") or 0)
    if left is None:
        return f"{old} old" if old else "-"
    ends = f"ends in {duration(left)}" if left > 0 else "ended"
    return f"{ends}, {old} old" if old else ends


def _readers(readers: Sequence[Mapping[str, Any]]) -> str:
    """How many pods have the version that is shown, of how many."""
    pods: dict[tuple[str, str], bool] = {}
    for one in readers:
        pod = (str(one.get("namespace")), str(one.get("pod")))
        pods[pod] = pods.get(pod, True) and one.get("standing") == "current"
    return f"{sum(pods.values())} of {len(pods)}"
