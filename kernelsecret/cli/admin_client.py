"""Asks a running agent on its admin socket: HTTP over a unix socket, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from kernelsecret.cli.failures import CommandError

ANSWER_WITHIN_S = 10.0
SILENT_FOR_S = 60.0
"""The agent says something at least every 15 s; one that is silent for so long has been cut off."""


class NoAgent(CommandError):
    """Nobody answers at the socket."""


class AdminClient:
    """One agent's admin socket. Every method raises NoAgent or CommandError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self) -> dict[str, Any]:
        """The status document."""
        with closing(self._get("/status", ANSWER_WITHIN_S)) as response:
            try:
                found: dict[str, Any] = json.loads(response.read())
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise NoAgent(f"the agent at {self._path} ended while it answered") from error
        return found

    def events(self, replay: int = 0, *, follow: bool = True) -> Iterator[bytes]:
        """JSON lines without their ends, until the agent ends the stream or dies. Connected when this returns."""
        return _lines(self._get(f"/events?replay={replay}&follow={int(follow)}", SILENT_FOR_S))

    def _get(self, target: str, timeout_s: float) -> http.client.HTTPResponse:
        connection = _Connection(self._path, timeout_s)
        try:
            # One request a connection, so that the response alone owns the socket and closes it.
            connection.request("GET", target, headers={"Connection": "close"})
            response = connection.getresponse()
        except PermissionError:
            raise CommandError(f"{self._path} is root's alone: run this with sudo") from None
        except (FileNotFoundError, ConnectionError, http.client.HTTPException):
            raise NoAgent(
                f"no agent answers at {self._path}: start one with `kernelsecret-ctl agent`,"
                " or name its socket with --admin-socket"
            ) from None
        except OSError as error:
            raise NoAgent(f"no agent answers at {self._path}: {error.strerror or error}") from None
        finally:
            connection.close()
        if response.status != 200:
            with closing(response):
                raise CommandError(_refusal(response))
        return response


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    with closing(response), suppress(OSError, http.client.HTTPException):
        for line in response:
            if stripped := line.strip():
                yield stripped


def _refusal(response: http.client.HTTPResponse) -> str:
    """The agent's own words, which are written for operators."""
    try:
        words = json.loads(response.read(1 << 16)).get("error", "")
    except (OSError, ValueError, AttributeError):
        words = ""
    return f"the agent refused: {words or response.reason}"
