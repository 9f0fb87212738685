"""`kernelsecret-ctl trace`: events as they come, across restarts of the agent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from kernelsecret.cli.admin_client import AdminClient, NoAgent
from kernelsecret.cli.agent_command import socket_of
from kernelsecret.cli.failures import Exit, say
from kernelsecret.cli.render import event_line

TRY_AGAIN_S = 0.5


def run(admin_socket: Path | None, *, replay: int, follow: bool, as_json: bool) -> int:
    """Print events until Ctrl-C, or with `follow` off until the earlier ones are shown. Raises CommandError."""
    client = AdminClient(socket_of(admin_socket))
    try:
        _show(client.events(replay, follow=follow), as_json=as_json)
        while follow:
            say("the agent has gone (what it served is still served); waiting for it to come back")
            events = _reconnect(client)
            say("the agent is back")
            _show(events, as_json=as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    return Exit.OK


def _show(events: Iterator[bytes], *, as_json: bool) -> None:
    for line in events:
        print(line.decode() if as_json else event_line(json.loads(line)), flush=True)


def _reconnect(client: AdminClient) -> Iterator[bytes]:
    while True:
        try:
            return client.events()
        except NoAgent:
            time.sleep(TRY_AGAIN_S)  # nothing tells of a socket that appears
