"""`kernelsecret-ctl push`: signed with a sender's key, by the standard library alone.

The key comes from a file and goes nowhere: not into arguments, the environment, errors or output.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from kernelsecret.cli.failures import CommandError, Exit
from kernelsecret.errors import Refused
from kernelsecret.node_api import refused_by
from kernelsecret.push import (
    MAX_KEY,
    MAX_SECRETS,
    PATH_PUSH,
    Accepted,
    Push,
    PushedSecret,
    key_problem,
    secret_of,
    sender_problem,
    signed_headers,
)

ANSWER_WITHIN_S: Final = 10.0
PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
MOST_ANSWER: Final = 64 * 1024
_AGAIN: Final = (409, 429, 503)
"""Signed anew it may be taken: another push of this sender was newer, too many came, or the API server was away."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the webhook is; `name` is what its certificate is for."""

    host: str
    port: int
    name: str
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Sender:
    """Who pushes."""

    name: str
    key: bytes = field(repr=False)

    def headers(self, body: bytes) -> dict[str, str]:
        """Of a push of now."""
        signed = signed_headers(self.key, self.name, time.time_ns(), secrets.token_urlsafe(24), body)
        return {**signed, "Content-Type": "application/json", "Connection": "close"}


class _Away(Exception):
    """No answer; the text is for people."""


class _Answer(msgspec.Struct, frozen=True):
    status: int
    retry_after_s: float
    body: bytes


def run(
    named: Sequence[str],
    *,
    sender: str,
    key_file: Path,
    server: str,
    ca_file: Path,
    server_name: str,
    within_s: float,
    as_json: bool,
) -> int:
    """Push, and print what came of it. Raises CommandError."""
    asked = _secrets(named)
    if problem := sender_problem(sender):
        raise CommandError(f"--sender: {problem}", Exit.USAGE)
    who = Sender(sender, _key(key_file))
    door = _door(server, ca_file, server_name)
    body = msgspec.json.encode(Push(secrets=asked))
    began = time.monotonic()
    answer = _pushed(door, who, body, began + within_s)
    took_ms = round(1000 * (time.monotonic() - began), 1)
    if answer.status == 202:
        _accepted(answer)
        _print(as_json, {"accepted": True, "secrets": [str(one) for one in asked], "took_ms": took_ms}, asked)
        return Exit.OK
    refused = refused_by(f"webhook at {server}", answer.status, answer.body)
    if as_json:
        said = {"code": refused.code.value, "field": refused.field, "why": refused.why, "fix": refused.fix}
        print(json.dumps({"accepted": False, "status": answer.status, **said}))
        return Exit.WRONG
    raise CommandError(f"refused with status {answer.status}: {refused}")


def _pushed(door: Door, who: Sender, body: bytes, until: float) -> _Answer:
    """The answer; while there is time, tried again where it may be another one then."""
    pause = PAUSE_S
    while True:
        told: _Answer | None = None
        away: _Away | None = None
        try:
            told = _asked(door, who.headers(body), body)
            if told.status not in _AGAIN:
                return told
        except _Away as failure:
            away = failure
        wait = min(max(pause, told.retry_after_s if told else 0.0), LONGEST_PAUSE_S)
        if time.monotonic() + wait > until:
            if told is None:
                raise CommandError(str(away)) from None
            return told
        time.sleep(wait)
        pause *= 2


def _asked(door: Door, headers: Mapping[str, str], body: bytes) -> _Answer:
    connection = _Connection(door)
    try:
        with closing(connection):
            connection.request("POST", PATH_PUSH, body=body, headers=dict(headers))
            response = connection.getresponse()
            said = response.read(MOST_ANSWER)
            after = response.getheader("Retry-After", "")
    except ssl.SSLCertVerificationError as error:
        why = f"its certificate is not believed: {error.verify_message}"
        fix = "--ca-file is the key authorities of the ConfigMap kernelsecret-trust, --server-name what it is for"
        raise CommandError(f"{door.host}:{door.port}: {why}; {fix}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Away(f"{door.host}:{door.port} does not answer ({_words(error)}): is it the webhook's port?") from None
    return _Answer(response.status, float(after[:4]) if after.isdigit() else 0.0, said)


class _Connection(http.client.HTTPSConnection):
    def __init__(self, door: Door) -> None:
        super().__init__(door.host, door.port, timeout=ANSWER_WITHIN_S, context=door.context)
        self._door = door

    def connect(self) -> None:
        plain = socket.create_connection((self._door.host, self._door.port), self.timeout)
        try:
            self.sock = self._door.context.wrap_socket(plain, server_hostname=self._door.name)
        except BaseException:
            plain.close()
            raise


def _secrets(named: Sequence[str]) -> tuple[PushedSecret, ...]:
    try:
        found = tuple(dict.fromkeys(map(secret_of, named)))
    except Refused as refused:
        raise CommandError(str(refused), Exit.USAGE) from None
    if len(found) > MAX_SECRETS:
        raise CommandError(f"{len(found)} secrets, at most {MAX_SECRETS} in one push: push twice", Exit.USAGE)
    return found


def _key(path: Path) -> bytes:
    """The key: every byte of the file, as the Secret has it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            key = file.read(MAX_KEY + 1)
    except OSError as error:
        raise CommandError(f"--key-file: {path}: {error.strerror or error}", Exit.USAGE) from None
    if problem := key_problem(key):
        why = f"--key-file: the key in {path} {problem}; make one by openssl rand -hex 32"
        raise CommandError(why, Exit.USAGE)
    return key


def _door(server: str, ca_file: Path, server_name: str) -> Door:
    host, port = _address(server)
    # No other authority is believed: not the system's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        why = "holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror or ""
        raise CommandError(f"--ca-file: {ca_file}: {why}", Exit.USAGE) from None
    return Door(host, port, server_name or host, context)


def _address(server: str) -> tuple[str, int]:
    try:
        url = urlsplit(server)
        is_plain = url.scheme == "https" and url.path in ("", "/") and not (url.query or url.fragment or url.username)
        if is_plain and url.hostname:
            return url.hostname, url.port or 443
    except ValueError:
        pass
    fix = "inside the cluster it is https://kernelsecret-webhook.kernelsecret-system.svc"
    raise CommandError(f"--server: is not https://HOST or https://HOST:PORT; {fix}", Exit.USAGE)


def _accepted(answer: _Answer) -> None:
    try:
        msgspec.json.decode(answer.body, type=Accepted)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CommandError("whoever answered is not the webhook: see --server") from None


def _print(as_json: bool, document: Mapping[str, Any], asked: Sequence[PushedSecret]) -> None:
    if as_json:
        print(json.dumps(document))
    else:
        print("\n".join(f"told every agent: {one} has changed" for one in asked))


def _words(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else type(error).__name__
