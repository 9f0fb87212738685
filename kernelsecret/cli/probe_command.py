"""`kernelsecret-ctl probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kernelsecret.cli.admin_client import AdminClient, NoAgent
from kernelsecret.cli.agent_command import load, socket_of
from kernelsecret.cli.failures import Exit, say
from kernelsecret.cli.render import kernel_line

MEANS = {
    "iter": "secrets are served from the kernel, and it judges every reader",
    "tmpfs": "secrets are served as files in memory; the kernel does not judge who reads",
}


def run(admin_socket: Path | None, *, require: str, as_json: bool) -> int:
    """Print what was found; 1 where the required engine is not it."""
    found, by_agent = _find(admin_socket)
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join(_lines(found, by_agent=by_agent)))
    if require not in ("auto", found["engine"]):
        say(f"{require} does not work here: {found['reason'] or 'the agent was told not to use it'}")
        return Exit.WRONG
    return Exit.OK


def _find(admin_socket: Path | None) -> tuple[dict[str, Any], bool]:
    try:
        probe = AdminClient(socket_of(admin_socket)).status().get("probe")
    except NoAgent:
        probe = None
    if probe:
        return probe, True
    from agent import upkeep

    return upkeep.probe_once(load({})).as_status(), False


def _lines(found: dict[str, Any], *, by_agent: bool) -> list[str]:
    lines = [f"engine     {found['engine']}: {MEANS.get(found['engine'], '')}"]
    if found["reason"]:
        lines.append(f"because    {found['reason']}")
    lines.append(f"idmapped   {found.get('idmapped', 'none')}: {_idmapped(found)}")
    lines.append(f"kernel     {kernel_line(found)}")
    lines.append("found by   " + ("the running agent" if by_agent else "serving a canary, which is gone again"))
    return lines


def _idmapped(found: dict[str, Any]) -> str:
    if found.get("idmapped", "none") != "none":
        return "pods with hostUsers: false can have what is served as files in memory"
    return f"pods with hostUsers: false cannot be served ({found.get('idmapped_reason') or 'not looked at'})"
