"""`kernelsecret-ctl status`."""

from __future__ import annotations

import json
from pathlib import Path

from kernelsecret.cli.admin_client import AdminClient
from kernelsecret.cli.agent_command import socket_of
from kernelsecret.cli.failures import Exit
from kernelsecret.cli.render import status_lines


def run(admin_socket: Path | None, *, as_json: bool) -> int:
    """Print the status document. Raises CommandError."""
    found = AdminClient(socket_of(admin_socket)).status()
    print(json.dumps(found) if as_json else "\n".join(status_lines(found)))
    return Exit.OK
