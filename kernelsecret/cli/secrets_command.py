"""`kernelsecret-ctl secrets`: what is served from which source, how fresh it is, and who has read what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernelsecret.cli.admin_client import AdminClient
from kernelsecret.cli.agent_command import socket_of
from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.cli.render_secrets import reader_lines, secret_lines

Secret = Mapping[str, Any]


def run(admin_socket: Path | None, *, pod: str, as_json: bool) -> int:
    """Print the secrets of all pods, or with `pod` (NAMESPACE/NAME) of one, file by file. Raises CommandError."""
    namespace, slash, name = pod.partition("/")
    if pod and not (slash and namespace and name and "/" not in name):
        raise CommandError(f"--pod: '{pod}' is not NAMESPACE/NAME, for example payments/api-0", Exit.USAGE)
    found: Sequence[Secret] = AdminClient(socket_of(admin_socket)).status().get("secrets") or []
    if pod:
        found = of_pod(found, namespace, name)
        if not found:
            raise CommandError(f"no volume of the pod {pod} is published on this node: look with `status`")
    if as_json:
        print(json.dumps(found))
    else:
        print("\n".join([*secret_lines(found), *(["", *reader_lines(found)] if pod else [])]))
    return Exit.OK


def of_pod(secrets: Sequence[Secret], namespace: str, name: str) -> list[Secret]:
    """Those that the pod shows, with its own readers only."""
    found: list[Secret] = []
    for secret in secrets:
        mine = [one for one in secret["readers"] if (one["namespace"], one["pod"]) == (namespace, name)]
        if mine:
            found.append({**secret, "readers": mine})
    return found
