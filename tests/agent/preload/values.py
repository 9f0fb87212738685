"""What the volume of the matrix holds: for each version the same number in every shape that a program wants.

A value is one line of eight digits, repeated a number of times that follows from it: whoever reads it knows whether it
is whole, and which version it is of.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from certs.authority import create_authority
from certs.leaf import issue_server_leaf

LINES: Final = 500
"""As in loads/: with 9 bytes each, a value is longer than the buffer of any C library."""
DIGITS: Final = 8
PASSWORD_TIMES, TOKEN_TIMES = 8, 200
LIFETIME: Final = timedelta(days=2)
HOST: Final = "localhost"

VALUE, BUNDLE, NETRC, HEADER, PGPASS = FILES = ("value", "bundle.pem", "netrc", "header", "pgpass")


class NotWhole(ValueError):
    """What was read is no value that was ever published."""


def digits(number: int) -> str:
    """A version's number, as it stands in all its shapes."""
    return f"{number:0{DIGITS}d}"


def repeated(number: int, times: int) -> str:
    """A password or a token of this version."""
    return digits(number) * times


def number_of(text: str, times: int) -> int:
    """The version of such a one. Raises NotWhole."""
    first = text[:DIGITS]
    if not first.isdecimal() or text != first * times:
        raise NotWhole(f"{len(text)} characters, {first!r}..")
    return int(first)


def value(number: int) -> bytes:
    """The file that programs read whole; see loads/read.py."""
    return f"{digits(number)}\n".encode() * (LINES + number % 64)


class Versions:
    """Makes versions. Certificates are of one authority; each has a key of its own, and its number in a name."""

    def __init__(self) -> None:
        self._authority = create_authority(datetime.now(UTC), LIFETIME)

    @property
    def authority_pem(self) -> str:
        """Whom clients trust."""
        return self._authority.certificate_pem

    def bundle(self, number: int) -> bytes:
        """Key, certificate and authority in one PEM file."""
        names = [f"v{number}.programs.test", HOST]
        leaf = issue_server_leaf(self._authority, names, datetime.now(UTC), LIFETIME)
        return (leaf.key_pem + leaf.certificate_pem + self.authority_pem).encode()

    def files(self, number: int, pgpass: str) -> dict[str, bytes]:
        """All files of a version."""
        return {
            VALUE: value(number),
            BUNDLE: self.bundle(number),
            NETRC: f"machine {HOST} login web password {repeated(number, PASSWORD_TIMES)}\n".encode(),
            HEADER: f"X-Token: {repeated(number, TOKEN_TIMES)}\n".encode(),
            PGPASS: pgpass.encode(),
        }
