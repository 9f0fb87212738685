"""The TLS context and the bearer token of a connection, each read again when its file changes."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from apiclient.connection import Connection
from kernelsecret.errors import Code, Refused
from telemetry.logkeys import Event
from telemetry.logs import get_logger, problem

MAX_TOKEN = 64 << 10
"""Bytes of a token file."""

log = get_logger("apiclient")


def load_pair(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """Load a certificate and its key from memory: OpenSSL takes only files, so they pass through one without a name.

    Raises ssl.SSLError when they do not belong together.
    """
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as nameless:
        nameless.write(f"{key_pem}\n{certificate_pem}".encode("ascii"))
        nameless.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


class _Changes:
    """Tells when a file is another than before: kubelet swaps a link, others write in place."""

    __slots__ = ("_path", "_seen", "stale")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.stale = False

    def changed(self) -> bool:
        """Whether it changed since the last call. Raises OSError where it cannot be looked at."""
        found = self._path.stat()
        now = (found.st_ino, found.st_mtime_ns, found.st_size)
        changed = now != self._seen
        self._seen = now
        return changed

    def forget(self) -> None:
        """Let the next call say that it changed."""
        self._seen = None

    def say(self, error: Exception) -> None:
        """Log, once for each time, that what the file holds could not be taken over."""
        if not self.stale:
            self.stale = True
            log.warning(Event.CREDENTIAL_STALE, path=self._path, **problem(error))


class Token:
    """The bearer token, from a file or inline. `value()` is cheap: one stat."""

    __slots__ = ("_changes", "_file", "_value")

    def __init__(self, connection: Connection) -> None:
        self._file = connection.token_file
        self._changes = _Changes(self._file) if self._file else None
        self._value = _checked(connection.token, "token") if connection.token else ""

    def __repr__(self) -> str:
        return f"Token({self._file})"

    def value(self, *, fresh: bool = False) -> str:
        """The token as it is now, "" where the connection has none; `fresh` reads the file also if it looks the same.

        A file that is away for a moment leaves the last token in use. Raises Refused when none was ever read.
        """
        if self._file is None or self._changes is None:
            return self._value
        if fresh:
            self._changes.forget()
        try:
            if self._changes.changed():
                with self._file.open("rb") as opened:
                    raw = opened.read(MAX_TOKEN + 1)
                self._value = _checked(raw.decode("ascii", "replace").strip(), str(self._file))
                self._changes.stale = False
        except (OSError, Refused) as error:
            self._changes.forget()
            if not self._value:
                if isinstance(error, Refused):
                    raise
                raise Refused(
                    Code.FAILED_PRECONDITION, str(self._file), f"cannot be read ({error.strerror})", "mount the token"
                ) from error
            self._changes.say(error)
        return self._value


class AskedToken:
    """The bearer token of somebody else, who is asked for it each time."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask

    def value(self, *, fresh: bool = False) -> str:
        """The token as it is now, whether or not `fresh` is asked for. Raises Refused, also whatever `ask` raises."""
        return _checked(self._ask(), "token")


def _checked(token: str, field: str) -> str:
    """A token goes into a header: nothing that could end the line or begin another."""
    if not token or len(token) > MAX_TOKEN or not all("!" <= character <= "~" for character in token):
        raise Refused(Code.FAILED_PRECONDITION, field, "not a token", "mount the service account's token there")
    return token


class Tls:
    """The client's TLS context. `refresh()` before a request loads replaced certificates into it, live."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.context: ssl.SSLContext | None = None
        if not connection.server.startswith("https:"):
            return
        self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        files = (connection.ca_file, connection.client_certificate, connection.client_key)
        self._watched = [_Changes(path) for path in files if path is not None]
        try:
            if not connection.ca_file and not connection.ca_pem:
                context.load_default_certs()
            self._load(context)
            for watched in self._watched:
                watched.changed()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Refused(
                Code.FAILED_PRECONDITION,
                "CA or client certificate",
                f"cannot be loaded ({type(error).__name__})",
                "see that the PEM files exist, can be read, and that key and certificate belong together",
            ) from None

    def _load(self, context: ssl.SSLContext) -> None:
        connection = self._connection
        if connection.ca_file:
            context.load_verify_locations(cafile=connection.ca_file)
        if connection.ca_pem:
            context.load_verify_locations(cadata=connection.ca_pem)
        if connection.client_certificate and connection.client_key:
            context.load_cert_chain(connection.client_certificate, connection.client_key)
        elif connection.client_certificate_pem or connection.client_key_pem:
            certificate = connection.client_certificate_pem or _text(connection.client_certificate)
            load_pair(context, certificate, connection.client_key_pem or _text(connection.client_key))

    def refresh(self) -> None:
        """Load what changed. A half-written or missing file leaves what was loaded before."""
        if self.context is None:
            return
        try:
            # Every file is asked, so that two that changed together cost one load.
            if {watched.changed() for watched in self._watched} & {True}:
                self._load(self.context)
                for watched in self._watched:
                    watched.stale = False
        except (OSError, ValueError) as error:
            for watched in self._watched:
                watched.forget()
                watched.say(error)


def _text(path: Path | None) -> str:
    return path.read_text("ascii") if path is not None else ""
