"""Servers for the programs that send what they read: they tell back which generation came.

Certificates are self-signed and named after their generation, so that one file is certificate and authority at once.
Who asks for `authority` is told the server's own generation: it came this far because it trusts it.
"""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SSL_REQUEST = 80877103
CLEARTEXT_PASSWORD = 3


def context_for(certificate: Path, key: Path, known: list[Path]) -> ssl.SSLContext:
    """A server's, which asks its clients for one of the `known` certificates without insisting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for path in known:
        context.load_verify_locations(path)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def name_of(connection: socket.socket) -> str:
    """Whom the client's certificate names; empty where it showed none."""
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not found:
        return ""
    subject = found["subject"]
    assert isinstance(subject, tuple)
    return str(subject[0][0][1])


class Quiet(socketserver.ThreadingTCPServer):
    """Clients that break off are part of the tests."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: what the client says is looked at."""


class Page(BaseHTTPRequestHandler):
    """Answers with what the request brought: certificate, password, token, body."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        password = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
        token = self.headers.get("X-Token", "").encode()
        assert isinstance(self.server, Https)
        authority = self.server.shown if self.path == "/authority" else "answered"
        found = b"\n".join((name_of(self.connection).encode(), password, token, body, authority.encode() + b"\n"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nothing: requests hold the tests' secrets."""


class Https(Quiet, ThreadingHTTPServer):
    """Shows its own certificate, so that a client's authority has to be of the same generation."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context, self.shown = context, ""
        super().__init__(("127.0.0.1", 0), Page)

    def finish_request(self, request: object, client_address: object) -> None:
        """Shake hands in the client's own thread."""
        assert isinstance(request, socket.socket)
        with self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


class PostgresLogin(socketserver.BaseRequestHandler):
    """A PostgreSQL server as far as the password, which it tells back in its refusal."""

    def handle(self) -> None:
        """One client."""
        assert isinstance(self.server, Postgres)
        connection: socket.socket = self.request
        startup = self._packet(connection)
        if struct.unpack_from("!I", startup)[0] == SSL_REQUEST:
            connection.sendall(b"S")
            connection = self.server.context.wrap_socket(connection, server_side=True)
            startup = self._packet(connection)
        connection.sendall(struct.pack("!cII", b"R", 8, CLEARTEXT_PASSWORD))
        connection.recv(1)
        password = self._packet(connection).rstrip(b"\0").decode()
        authority = self.server.shown if b"\0authority\0" in startup else "answered"
        said = f"certificate {name_of(connection)}, password {password}, {authority}"
        fields = b"SFATAL\0VFATAL\0C28P01\0M" + said.encode() + b"\0\0"
        connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
        if isinstance(connection, ssl.SSLSocket):
            connection.unwrap().close()

    def _packet(self, connection: socket.socket) -> bytes:
        with connection.makefile("rb", buffering=0) as stream:
            (length,) = struct.unpack("!I", stream.read(4) or b"")
            return stream.read(length - 4) or b""


class Postgres(Quiet):
    """Listens on loopback; TLS where the client asks for it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context, self.shown = context, ""
        super().__init__(("127.0.0.1", 0), PostgresLogin)


def start(server: socketserver.BaseServer) -> threading.Thread:
    """Serve in a thread of its own, which ends with `shutdown`."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread
