"""How the text of a setting becomes its value. Pure; parsers raise ValueError whose words follow "the value ..."."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import msgspec

from kernelsecret.quantities import seconds

SOCKET_PATH_BYTES = 107
_NODE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_QUANTITY = re.compile(r"[1-9][0-9]{0,11}(?:\.[0-9]{1,3})?(?:m|k|M|G|Ki|Mi|Gi)?|0\.[0-9]{1,3}")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Address(msgspec.Struct, frozen=True):
    """Where to listen. IPv6 hosts are without brackets here."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def absolute_path(text: str) -> Path:
    """An absolute path without `..`."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError("is not an absolute path")
    if ".." in PurePosixPath(text).parts:
        raise ValueError("has '..' in it")
    return Path(text)


def socket_path(text: str) -> Path:
    """An absolute path that fits a unix socket's address."""
    path = absolute_path(text)
    if len(text.encode()) > SOCKET_PATH_BYTES:
        raise ValueError(f"a socket's path has at most {SOCKET_PATH_BYTES} bytes")
    return path


def audit_destination(text: str) -> Path | None:
    """An absolute path; `-` (standard output) is None."""
    return None if text == "-" else absolute_path(text)


def node_name(text: str) -> str:
    """A Kubernetes node's name."""
    if not _NODE.fullmatch(text):
        raise ValueError("is not a node's name (lower case letters, digits, '-' and '.')")
    return text


def address(text: str) -> Address:
    """`HOST:PORT` with an IP address (IPv6 in brackets) or localhost."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("is not HOST:PORT with a port of 0 to 65535")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("has a host that is neither an IP address nor localhost") from None
    return Address(host, int(port))


def endpoint(text: str) -> Address:
    """`HOST:PORT` to connect to: a host's name or an IP address (IPv6 in brackets)."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise ValueError("is not HOST:PORT with a port of 1 to 65535")
    host = host.removeprefix("[").removesuffix("]")
    if len(hosts(host)) != 1 or "," in host:
        raise ValueError("has not one host")
    return Address(host, int(port))


def one_of(*words: str) -> Callable[[str], str]:
    """A parser that lets through these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return text

    return parse


def number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError(f"is not a number from {low} to {high}")
        return int(text)

    return parse


def optional_path(text: str) -> Path | None:
    """An absolute path; nothing is None."""
    return absolute_path(text) if text else None


def optional_text(text: str) -> str:
    """Printable text without spaces, which somebody else judges; may be empty."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("has a character in it that is neither a letter, a digit nor a sign")
    return text


def optional_https(text: str) -> str:
    """`https://HOST[:PORT]`; may be empty."""
    if text and not _is_https(optional_text(text)):
        raise ValueError("is not https://HOST[:PORT] without user, path or query")
    return text.rstrip("/")


def quantity(text: str) -> str:
    """An amount of a container's CPU or memory, as Kubernetes writes it."""
    if not _QUANTITY.fullmatch(text):
        raise ValueError("is not an amount such as 10m, 0.5, 64Mi or 1Gi")
    return text


def interval(least_s: float, most_s: float) -> Callable[[str], float]:
    """A parser of durations such as `250ms`, in seconds."""

    def parse(text: str) -> float:
        try:
            found = seconds(text)
        except ValueError as problem:
            raise ValueError(f"is {problem}") from None
        if not least_s <= found <= most_s:
            raise ValueError(f"is not from {least_s:g} s to {most_s:g} s")
        return found

    return parse


def namespace_name(text: str) -> str:
    """A Kubernetes namespace's name."""
    if not _LABEL.fullmatch(text):
        raise ValueError("is not a namespace's name (lower case letters, digits and '-')")
    return text


def identity(text: str) -> str:
    """What one of several replicas calls itself; may be empty."""
    if text and not _NODE.fullmatch(text):
        raise ValueError("is not a name (lower case letters, digits, '-' and '.')")
    return text


def hosts(text: str) -> tuple[str, ...]:
    """Names of hosts and IP addresses with commas between them; may be empty."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for host in found:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            if not _NODE.fullmatch(host):
                raise ValueError("has a part that is neither a host's name nor an IP address") from None
    return found


def _is_https(text: str) -> bool:
    try:
        url = urlsplit(text)
        fits = url.scheme == "https" and bool(url.hostname) and url.path in ("", "/") and url.port != 0
    except ValueError:
        return False
    return fits and "@" not in text and "?" not in text and "#" not in text
