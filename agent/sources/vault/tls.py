"""Whom the agent believes to be Vault: the pinned authorities and no others, TLS 1.3, the name, the revocations.

Every file is looked at again when it changes, and a context is made anew: an authority or a revocation cannot be taken
out of a live one. A file that cannot be used fails closed, with its own error.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.sources.vault.errors import Kind, VaultError
from agent.sources.vault.settings import (
    CA_FILE,
    CLIENT_CERT_FILE,
    CLIENT_KEY_FILE,
    CRL_FILE,
    SERVER_NAME,
    VaultSettings,
)
from kernelsecret.problems import quoted

LOOK_S: Final = 1.0
"""Between two looks at the files."""
_MAX_FILE: Final = 16 << 20
_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

Seen = tuple[tuple[int, int, int] | None, ...]


class Tls:
    """The newest context. `generation` moves on whenever what was verified before must be verified anew."""

    def __init__(self, settings: VaultSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        files = (settings.ca_file, settings.client_cert_file, settings.client_key_file, settings.crl_file)
        self._files = tuple(path for path in files if path is not None)
        self._seen: Seen | None = None
        self._looked = float("-inf")
        self._context: ssl.SSLContext | None = None
        self._problem: VaultError | None = None
        self.generation = 0

    def __repr__(self) -> str:
        return f"Tls(generation={self.generation})"

    def context(self) -> ssl.SSLContext | None:
        """For the next connection; None where the address is http. Raises VaultError where a file cannot be used."""
        if not self._settings.address.startswith("https:"):
            return None
        if self._clock() - self._looked >= LOOK_S:
            self._looked = self._clock()
            self._look()
        if self._problem is not None:
            raise self._problem.with_traceback(None)
        return self._context

    def _look(self) -> None:
        now = tuple(_state(path) for path in self._files)
        if now == self._seen and self._problem is None:
            return
        if now != self._seen:
            self.generation += 1
        self._seen = now
        try:
            self._context, self._problem = _build(self._settings), None
        except VaultError as problem:
            self._context, self._problem = None, problem


def _state(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        found = path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size
    return None


def _build(settings: VaultSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if settings.ca_file is None:
        context.load_default_certs()
    else:
        # An intermediate may be pinned: then it, and not all that its root signed, is believed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=_read(settings.ca_file, CA_FILE, Kind.TLS).decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError):
            raise _unusable(Kind.TLS, CA_FILE, settings.ca_file, "has no certificate in PEM") from None
    if settings.crl_file is not None:
        _load_revocations(context, settings.crl_file)
    if settings.client_cert_file is not None and settings.client_key_file is not None:
        _load_pair(context, settings.client_cert_file, settings.client_key_file)
    return context


def _load_revocations(context: ssl.SSLContext, path: Path) -> None:
    lists = _CRL.findall(_read(path, CRL_FILE, Kind.TLS_CRL))
    if not lists:
        raise _unusable(Kind.TLS_CRL, CRL_FILE, path, "has no certificate revocation list in PEM")
    # OpenSSL takes lists from files only, and would take certificates from it too: those would be believed.
    descriptor = os.memfd_create("kernelsecret-crl", os.MFD_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as file:
        file.write(b"\n".join(lists) + b"\n")
        try:
            context.load_verify_locations(cafile=f"/proc/self/fd/{descriptor}")
        except ssl.SSLError:
            raise _unusable(Kind.TLS_CRL, CRL_FILE, path, "has a broken certificate revocation list") from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _read(certificate, CLIENT_CERT_FILE, Kind.TLS_CLIENT)
    _read(key, CLIENT_KEY_FILE, Kind.TLS_CLIENT)
    try:
        # With a password OpenSSL does not ask the terminal for one.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        why = f"is no key in PEM without a password, or not that of {quoted(str(certificate))}"
        raise _unusable(Kind.TLS_CLIENT, CLIENT_KEY_FILE, key, why) from None


def _read(path: Path, variable: str, kind: Kind) -> bytes:
    try:
        with path.open("rb") as opened:
            found = opened.read(_MAX_FILE + 1)
    except OSError as error:
        raise _unusable(kind, variable, path, f"cannot be read ({error.strerror})") from None
    if len(found) > _MAX_FILE:
        raise _unusable(kind, variable, path, f"is larger than {_MAX_FILE >> 20} MiB")
    return found


def _unusable(kind: Kind, variable: str, path: Path, why: str) -> VaultError:
    fix = "mend the file: it is read again when it changes, and Vault is not asked until then"
    return VaultError(kind, variable, f"{quoted(str(path))} {why}", fix, certain=True)


_VERIFYING = {
    3: (
        Kind.TLS_CRL,
        CRL_FILE,
        "the list has nothing of the authority that signed Vault's certificate",
        "add its list",
    ),
    8: (Kind.TLS_CRL, CRL_FILE, "the signature of the revocation list is wrong", "take it from the authority anew"),
    9: (Kind.TLS_EXPIRED, "", "its certificate is not valid yet", "compare the clocks of Vault and of this node"),
    10: (Kind.TLS_EXPIRED, "", "its certificate has expired", "renew Vault's certificate"),
    11: (Kind.TLS_CRL, CRL_FILE, "the revocation list is not valid yet", "compare the clocks"),
    12: (Kind.TLS_CRL, CRL_FILE, "the revocation list has expired", "put a newer one of the authority there"),
    23: (
        Kind.TLS_REVOKED,
        "",
        "its certificate has been revoked",
        "give Vault a new one, and find out who has the old",
    ),
    62: (Kind.TLS_HOST, SERVER_NAME, "", ""),
    64: (Kind.TLS_HOST, SERVER_NAME, "", ""),
}
_UNTRUSTED: Final = (Kind.TLS_UNTRUSTED, CA_FILE, "its certificate is signed by no authority that is believed")
_ALERTS_ON_US = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED")


def failure_of(error: ssl.SSLError, where: str, host: str) -> VaultError:
    """What a failed handshake, or an alert after it, means. `where` is how people know the server: `Vault at ...`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fallback = (*_UNTRUSTED, f"put the authority that signed it into {CA_FILE}")
        kind, variable, why, fix = _VERIFYING.get(error.verify_code, fallback)
        if kind is Kind.TLS_HOST:
            why = f"its certificate is not for {quoted(host)}"
            fix = "use the name that it is for in the address, or name it here"
        return VaultError(kind, variable or where, why if not variable else f"{where}: {why}", fix, certain=True)
    reason = (error.reason or "").upper()
    if any(word in reason for word in ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")):
        fix = "let its listener speak TLS 1.3 (tls_max_version)"
        return VaultError(Kind.TLS_TOO_OLD, where, "it does not speak TLS 1.3", fix, certain=True)
    if "ALERT" in reason and any(word in reason for word in _ALERTS_ON_US):
        why = f"{where} does not take the agent's certificate ({reason.lower()})"
        fix = "give the agent a live one of an authority in the listener's tls_client_ca_file"
        return VaultError(Kind.TLS_CLIENT, CLIENT_CERT_FILE, why, fix, certain=True)
    if any(word in reason for word in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")):
        return VaultError(Kind.TLS, where, "it does not speak TLS", "is it the right port?", certain=True)
    return VaultError(Kind.TLS, where, f"the TLS handshake failed ({reason.lower() or 'no reason'})", certain=True)
