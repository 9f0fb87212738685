"""TLS contexts from PEM that is held in memory, without a file that anybody else could read.

`ssl` reads keys from files only. Here the file is one without a name, in memory, that nobody else can open: a key
touches no disk and no folder.
"""

from __future__ import annotations

import os
import ssl

from kernelsecret.errors import Code, Refused


def load_pair(context: ssl.SSLContext, certificate_pem: str, key_pem: str) -> None:
    """Gives the context this certificate and key, also where it is in use: handshakes from now on present them.

    Raises Refused where they do not fit each other.
    """
    descriptor = os.memfd_create("kernelsecret-tls", os.MFD_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as file:
        file.write((certificate_pem + key_pem).encode())
        try:
            # With a password, which no key of ours has, OpenSSL does not ask the terminal for one.
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
        except ssl.SSLError:
            raise Refused(Code.INVALID_ARGUMENT, "leaf", "certificate and key do not fit each other") from None


def trust(context: ssl.SSLContext, authorities: str) -> None:
    """Lets the context believe these authorities (PEM) too. None can be taken out again: for that, make a new context.

    Raises Refused where they are not PEM.
    """
    try:
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError):
        raise Refused(Code.INVALID_ARGUMENT, "authorities", "are not certificates in PEM") from None


def client_context(trusted: str, certificate_pem: str = "", key_pem: str = "") -> ssl.SSLContext:
    """For a client: TLS 1.3, trusts these authorities (PEM) and no others, checks the name, shows its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    trust(context, trusted)
    if certificate_pem:
        load_pair(context, certificate_pem, key_pem)
    return context
