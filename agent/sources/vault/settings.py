"""Where Vault is, and whom to believe. Checked once; files are only named here, `tls` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from apiclient.connection import is_this_machine
from kernelsecret.errors import Code, Refused
from kernelsecret.problems import quoted

_P = "KERNELSECRET_VAULT_"
ADDRESS = _P + "ADDRESS"
CA_FILE = _P + "CA_FILE"
CLIENT_CERT_FILE = _P + "CLIENT_CERT_FILE"
CLIENT_KEY_FILE = _P + "CLIENT_KEY_FILE"
CRL_FILE = _P + "CRL_FILE"
SERVER_NAME = _P + "SERVER_NAME"
APPROLE_DIR = _P + "APPROLE_DIR"
"""The variables that these settings come from, which every error names."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """One Vault (perhaps of several servers). Raises Refused (INVALID_ARGUMENT) that names the variable."""

    address: str
    """https://HOST[:PORT]; http to this machine itself only."""
    ca_file: Path | None = None
    """The authorities that are believed, and no others. None: the system's."""
    client_cert_file: Path | None = None
    client_key_file: Path | None = None
    crl_file: Path | None = None
    """Certificates that the authorities have revoked. Where it is named it must be there, and not have expired."""
    server_name: str = ""
    """The name that Vault's certificate must have, where it is not the host of `address`."""
    approle_dir: Path | None = None
    """`<credential>/role-id` and `<credential>/secret-id` for each AppRole of the agent."""
    connect_s: float = 2.0
    whole_s: float = 10.0

    def __post_init__(self) -> None:
        url = _url(self.address)
        if url is None:
            example = "for example https://vault.example.com:8200"
            raise Refused(
                Code.INVALID_ARGUMENT, ADDRESS, "is not https://HOST[:PORT] without user, path or query", example
            )
        scheme, host = url
        if scheme == "http" and not is_this_machine(host):
            why = f"{quoted(self.address)} would send tokens and secrets in the clear"
            raise Refused(
                Code.INVALID_ARGUMENT, ADDRESS, why, "use https; http is for this machine's own addresses only"
            )
        files = {CA_FILE: self.ca_file, CLIENT_CERT_FILE: self.client_cert_file, CRL_FILE: self.crl_file}
        for variable, given in files.items():
            if scheme == "http" and given:
                raise Refused(Code.INVALID_ARGUMENT, variable, "is set, and the address is not https", f"see {ADDRESS}")
        if bool(self.client_cert_file) != bool(self.client_key_file):
            missing = CLIENT_KEY_FILE if self.client_cert_file else CLIENT_CERT_FILE
            raise Refused(Code.INVALID_ARGUMENT, missing, "certificate and key come together", "set both, or none")

    @property
    def base(self) -> str:
        """The address without a slash at its end."""
        return self.address.rstrip("/")


def _url(address: str) -> tuple[str, str] | None:
    try:
        url = urlsplit(address)
        fits = url.scheme in ("https", "http") and url.hostname and url.path in ("", "/") and url.port != 0
    except ValueError:  # a port that is none, an IPv6 address that is none
        return None
    odd = url.query or url.fragment or url.username is not None
    return (url.scheme, url.hostname) if fits and not odd and url.hostname else None
