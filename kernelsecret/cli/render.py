"""What the agent says, as lines for people. Pure.

Names in it come from pods, which may be hostile; the agent has escaped them, and rich's markup is escaped where they
are put into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RULES = {
    "pod": "is not in the pod",
    "app": "was entered from outside",
    "main": "is not the container's first program",
    "binaries": "runs a program that is not named",
    "grant": "reads through a volume that is not (or no longer) its own",
    "open-files": "has too many files open",
    "version": "was paused for too long in the middle of a value",
    "internal": "met what the kernel program does not understand",
}


def event_line(event: Mapping[str, Any]) -> str:
    """One event as one line: time of day, what, whose, details."""
    kind = str(event.get("event", "?"))
    if kind == "dropped":
        return f"{'':15}  {event.get('count')} events are missing here: this watcher was too slow"
    clock = str(event.get("time", "")).partition("T")[2][:15]
    return f"{clock:15}  {_what(kind, event)}"


def _what(kind: str, event: Mapping[str, Any]) -> str:
    get = event.get
    pod = f"{get('namespace')}/{get('pod')}"
    if kind == "read":
        return _read(event, pod)
    if kind == "rotated":
        took = f" in {int(get('duration_us', 0)) / 1000:.1f} ms" if get("duration_us") else ""
        return f"rotated    {get('source')}:{get('secret')}  {get('keys')} keys, {get('volumes')} volumes{took}"
    if kind in ("published", "adopted"):
        return f"{kind:10} {pod}  {get('files')} files by {get('engine')} (mode {get('mode')})"
    if kind == "publish-refused":
        return f"REFUSED    {pod}  publish: {get('field')}: {get('why')}"
    if kind == "served-unenforced":
        return f"UNENFORCED {pod}  by {get('engine')}, which cannot hold the rule {get('access')}: {get('why')}"
    if kind == "unpublished":
        return f"{kind:10} {pod}  {get('reason')}"
    if kind == "program-unaffected":
        return f"UNAFFECTED {pod}  {get('program')}: {get('why')}"
    if kind == "kernel-limit":
        return f"LIMIT      {get('call')}: {get('errno')} (the last good value is served on)"
    details = (f"{key}={value}" for key, value in event.items() if key not in ("time", "event"))
    return f"{kind:10} {' '.join(details)}"


def _read(event: Mapping[str, Any], pod: str) -> str:
    get = event.get
    who = f"{get('comm')}[{get('pid')}] uid {get('uid')}"
    rule = str(get("rule", "none"))
    if get("kind") == "served" and rule == "none":
        return f"served     {pod} {get('file')}  to {who}"
    why = RULES.get(rule, rule)
    if get("kind") == "served":
        return f"AUDITED    {pod} {get('file')}  {who} {why} (rule {rule}; served, because the action is audit)"
    return f"REFUSED    {pod} {get('file')}  {who} {why} (rule {rule}, {get('action')})"


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """The status document: the agent, what is wrong, each volume."""
    probe, up = status.get("probe") or {}, duration(float(status.get("uptime_s", 0)))
    lines = [
        f"agent      {status.get('version')} on {status.get('node')}, pid {status.get('pid')}, up {up}",
        f"engine     {probe.get('engine', 'none yet')}" + (f" ({probe['reason']})" if probe.get("reason") else ""),
        f"kernel     {kernel_line(probe)}",
    ]
    conditions = status.get("conditions") or []
    if not conditions:
        lines.append("health     good")
    for one in conditions:
        subject = f" {one['subject']}" if one.get("subject") else ""
        lines.append(f"DEGRADED   {one['reason']}{subject}: {one.get('why')} (since {one.get('since')})")
    for one in status.get("unaffected") or []:
        programs = ", ".join(f"{program['path']}: {program['why']}" for program in one["programs"])
        lines.append(f"UNAFFECTED {one['namespace']}/{one['pod']}: the shim does not reach {programs}")
    volumes = status.get("volumes") or []
    adopted = f", {status['adopted']} taken over at the start" if status.get("adopted") else ""
    lines.append(f"volumes    {len(volumes)}{adopted}")
    if shims := status.get("shims"):
        lines.append(f"shim       {len(shims)} volumes, {len({one['content'] for one in shims})} version(s)")
    if volumes:
        lines += ["", *table(_volume_rows(volumes))]
    return lines


def kernel_line(probe: Mapping[str, Any]) -> str:
    """The node in a few words."""
    btf = "with BTF" if probe.get("btf") else "without BTF"
    version = probe.get("cgroup_version")
    groups = f"cgroup v{version}" if version else "no cgroups"
    return f"{probe.get('kernel', '?')}, {btf}, lockdown {probe.get('lockdown', '?')}, {groups}"


def _volume_rows(volumes: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("POD", "INTERCEPTOR", "MODE", "ENGINE", "ACCESS", "SERVED", "REFUSED", "FILES")]
    for one in volumes:
        files = ",".join(file["name"] for file in one.get("files", []))
        counts = (str(one.get("served", "-")), str(one.get("refused", "-")))
        pod = f"{one.get('namespace')}/{one.get('pod')}"
        said = (str(one.get(key)) for key in ("interceptor", "mode", "engine", "access"))
        rows.append((pod, *said, *counts, files))
    return rows


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def duration(seconds: float) -> str:
    """`3.2 s`, `5 min`, `7 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
