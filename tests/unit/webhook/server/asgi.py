"""Asks an ASGI application by hand, so that anything can be sent, and holds it to the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

JSON = (b"content-type", b"application/json")


class Said(NamedTuple):
    """What was answered; status 0 where nothing was."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


async def ask(
    app: Any,
    path: str,
    *chunks: bytes,
    method: str = "POST",
    headers: Sequence[tuple[bytes, bytes]] = (JSON,),
    leaves: bool = False,
) -> Said:
    """One request; its body comes in chunks. `leaves`: the client disconnects before the last of them."""
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": leaves or number < len(chunks)}
        for number, chunk in enumerate(chunks or (b"",), 1)
    ]
    events.append({"type": "http.disconnect"})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return events.pop(0) if len(events) > 1 else events[0]

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8443),
        "state": {},
    }
    await app(scope, receive, send)
    if not sent:
        return Said(0, {}, b"")
    start, *rest = sent
    assert start["type"] == "http.response.start"
    assert all(message["type"] == "http.response.body" for message in rest)
    assert not rest[-1].get("more_body")
    body = b"".join(message.get("body", b"") for message in rest)
    found = dict(start["headers"])
    if method != "HEAD":
        assert int(found.get(b"content-length", len(body))) == len(body)
    return Said(start["status"], found, body)
